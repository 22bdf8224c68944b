//! All modes on the oldest server that is supported.

use crate::{Scene, TestResult, insert, merge, refused, upsert};

#[tokio::test]
async fn the_oldest_server_does_all_of_it() -> TestResult {
    let scene = Scene::oldest().await?;
    insert::types(&scene).await?;
    insert::repeats(&scene).await?;
    insert::strangers(&scene).await?;
    upsert::follows(&scene).await?;
    upsert::injections(&scene).await?;
    upsert::versions(&scene).await?;
    merge::merges(&scene).await?;
    refused::alone(&scene).await?;
    refused::sizes(&scene).await
}
