use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

/// Below the ephemeral ports, so that no outgoing connection takes the port of a server between kill and restart.
const PORTS: Range<u16> = 15_000..32_000;
const PORT_TRIES: u32 = 20;

/// A port that nothing listens on. It may be gone a moment later, which `mongod` then says.
pub(crate) fn free_port() -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for attempt in 0..PORT_TRIES {
        let random = RandomState::new().hash_one(attempt) % u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + random as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}
