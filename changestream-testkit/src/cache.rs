//! The folder that fetched servers live in.

use std::{
    env, fs,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{Error, Result};

/// The folder that fetched servers are kept in. It need not exist.
///
/// `CHANGESTREAM_CACHE`, else `$XDG_CACHE_HOME/changestream`, else `~/.cache/changestream`.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("CHANGESTREAM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("changestream")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/changestream")))
        .ok_or_else(|| {
            let unset = io::Error::new(io::ErrorKind::NotFound, "HOME is not set");
            Error::io("find a cache folder: set CHANGESTREAM_CACHE")(unset)
        })
}

/// What `find` gives, else what `fetch` puts into the cache, at which only one process is at a time.
pub(crate) fn find_or_fetch<T>(
    find: impl Fn() -> Result<Option<T>>,
    fetch: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if let Some(found) = find()? {
        return Ok(found);
    }
    let _lock = lock()?;
    match find()? {
        Some(found) => Ok(found),
        None => fetch(),
    }
}

/// Waits until no other process fetches; the lock goes with the file.
fn lock() -> Result<File> {
    let cache = cache_dir()?;
    let what = || format!("use the cache folder {}", cache.display());
    fs::create_dir_all(&cache).map_err(Error::io(what()))?;
    let file = File::create(cache.join("lock")).map_err(Error::io(what()))?;
    file.lock().map_err(Error::io(what()))?;
    Ok(file)
}

/// A folder to prepare something in, on the file system of the cache so that it can be renamed into place.
pub(crate) fn workshop() -> Result<TempDir> {
    let cache = cache_dir()?;
    tempfile::Builder::new()
        .prefix("fetching-")
        .tempdir_in(&cache)
        .map_err(Error::io(format!(
            "use the cache folder {}",
            cache.display()
        )))
}

/// Gives something complete its name in the cache.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(format!("write {}", to.display())))
}
