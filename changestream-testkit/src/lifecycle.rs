/// What every server can do, by the field that holds its process.
macro_rules! lifecycle {
    ($($field:ident).+) => {
        /// The version that runs, which is that of the program on the `PATH` if there is one.
        pub const fn version(&self) -> $crate::Version {
            self.$($field).+.program().version()
        }

        /// The port it listens on, the same after a restart.
        pub const fn port(&self) -> u16 {
            self.$($field).+.port()
        }

        /// The address it listens on, the same after a restart.
        pub fn addr(&self) -> std::net::SocketAddr {
            self.$($field).+.addr()
        }

        /// Kills the server as a crash would (`SIGKILL`), and waits until it is gone.
        pub async fn kill(&self) -> $crate::Result<()> {
            self.$($field).+.kill().await
        }
    };
}

pub(crate) use lifecycle;
