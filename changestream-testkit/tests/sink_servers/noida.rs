use changestream_testkit::NoidaServer;

use crate::lifecycle_tests;

lifecycle_tests!(NoidaServer);
