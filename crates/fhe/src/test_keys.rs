//! Key sets for tests, generated once per machine and shared by all test processes.
//!
//! They are kept in `cipherloom-test-keys` under `$CARGO_TARGET_DIR`, else in `$XDG_CACHE_HOME` or `~/.cache` under
//! `cipherloom/test-keys`. Anyone on the machine's account can read their secrets; they are for tests only.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{error::FheError, keys::KeySet, parameters::ParameterSet};

/// Changes whenever the parameters behind a name or the format of a part change, so that old sets are not found.
const GENERATION: u32 = 2;

/// Returns the toy key set: real TFHE code without any security, a bootstrap in about 10 µs.
///
/// # Errors
/// As [`KeySet::open_or_generate`].
pub fn insecure_test_keys() -> Result<Arc<KeySet>, FheError> {
    static CACHE: Mutex<Option<Arc<KeySet>>> = Mutex::new(None);
    cached(&CACHE, ParameterSet::InsecureToy)
}

/// Returns a toy key set with noise squashing, whose secrets of squashed values are here too.
///
/// # Errors
/// As [`KeySet::open_or_generate`] and [`KeySet::add_noise_squashing`].
pub fn insecure_test_keys_with_squashing() -> Result<Arc<KeySet>, FheError> {
    static CACHE: Mutex<Option<Arc<KeySet>>> = Mutex::new(None);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(keys) = &*cache {
        return Ok(Arc::clone(keys));
    }
    let directory = directory().join(format!("{}-squashing-{GENERATION}", ParameterSet::InsecureToy.name()));
    let keys = KeySet::open_or_generate(&directory, ParameterSet::InsecureToy, &())?;
    let keys = match keys.has_noise_squashing() {
        true => keys,
        false => keys.add_noise_squashing(&()).or_else(|error| {
            // Another process may have added it meanwhile.
            let keys = KeySet::open(&directory)?;
            if keys.has_noise_squashing() { Ok(keys) } else { Err(error) }
        })?,
    };
    let keys = Arc::new(keys);
    *cache = Some(Arc::clone(&keys));
    Ok(keys)
}

/// Returns a key set of production parameters. The first test on a machine that asks for it waits a minute or two.
///
/// # Errors
/// As [`KeySet::open_or_generate`].
pub fn production_test_keys() -> Result<Arc<KeySet>, FheError> {
    static CACHE: Mutex<Option<Arc<KeySet>>> = Mutex::new(None);
    cached(&CACHE, ParameterSet::Production)
}

fn cached(cache: &Mutex<Option<Arc<KeySet>>>, parameters: ParameterSet) -> Result<Arc<KeySet>, FheError> {
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(keys) = &*cache {
        return Ok(Arc::clone(keys));
    }
    let directory = directory().join(format!("{}-{GENERATION}", parameters.name()));
    let keys = Arc::new(KeySet::open_or_generate(&directory, parameters, &())?);
    *cache = Some(Arc::clone(&keys));
    Ok(keys)
}

fn directory() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(target) = from("CARGO_TARGET_DIR") {
        return target.join("cipherloom-test-keys");
    }
    let cache = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("cipherloom/test-keys")
}
