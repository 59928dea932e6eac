//! The public files of a key set, from a coprocessor in another process.
//!
//! A key set's id is a digest of its public files, so that they are right whoever they come from, if the id is. They are kept on disk under the id, which
//! lets a gateway start while the coprocessor is away. Whether the id is right is told by the KMS, which must have the same.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context, Result, ensure};
use cipherloom_fhe::{EncryptInputs, KeySetId, Manifest, ParameterSet};
use cipherloom_gateway::services::{KeyFile, KeyMaterial};
use cipherloom_primitives::B256;
use cipherloom_rpc::cipherloom::coprocessor::v1::KeyFileKind;
use cipherloom_service::{
    coprocessor::{Described, RemoteCoprocessor},
    endpoints::with_causes,
};

/// The files of a kept key set.
const MANIFEST: &str = "manifest.json";
const PUBLIC_KEY: &str = "public_key.bin";
const CRS: &str = "crs.bin";

/// What clients encrypt with.
#[derive(Clone)]
pub(crate) struct PublicKeys {
    id: B256,
    parameters: ParameterSet,
    public_key: Arc<[u8]>,
    crs: Arc<[u8]>,
}

impl PublicKeys {
    /// Takes the files of a key set, if they are.
    ///
    /// # Errors
    /// If the id is not that of the files.
    pub(crate) fn new(manifest: &Manifest, public_key: Arc<[u8]>, crs: Arc<[u8]>) -> Result<Self> {
        let parameters = manifest.parameters()?;
        let found = KeySetId::of(parameters, &public_key, &crs);
        ensure!(
            found == manifest.id,
            "these are the files of key set {found}, and the manifest says {}",
            manifest.id
        );
        Ok(Self {
            id: B256::from(*found.as_bytes()),
            parameters,
            public_key,
            crs,
        })
    }

    /// Returns the key set's id.
    pub(crate) const fn id(&self) -> B256 {
        self.id
    }

    /// Says whether the key set hides anything.
    pub(crate) const fn is_secure(&self) -> bool {
        self.parameters.is_secure()
    }

    /// Returns what encrypts with them, and checks what others have encrypted. Takes a while of CPU.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub(crate) fn encryptor(&self) -> Result<Arc<dyn EncryptInputs>> {
        let id = KeySetId::of(self.parameters, &self.public_key, &self.crs);
        Ok(Arc::from(cipherloom_fhe::encryptor_for_key_set(id, &self.public_key, &self.crs)?))
    }

    /// Returns the name of the parameters.
    pub(crate) const fn parameters(&self) -> ParameterSet {
        self.parameters
    }

    /// Fetches the files of a coprocessor's key set, or reads them where they were kept.
    ///
    /// # Errors
    /// If they cannot be had, are not those of the id, or cannot be kept.
    pub(crate) async fn of(coprocessor: &RemoteCoprocessor, described: &Described, cache: Option<&Path>) -> Result<Self> {
        let manifest = Manifest::parse(described.manifest.as_bytes()).context("the coprocessor's manifest")?;
        ensure!(
            manifest.id.as_bytes() == &described.key_set_id.0,
            "the coprocessor says that it has key set {}, and its manifest is of {}",
            hex::encode(described.key_set_id),
            manifest.id
        );
        if let Some(kept) = cache.and_then(|cache| Self::kept(cache, described.key_set_id).ok()) {
            return Ok(kept);
        }
        let fetch = async |kind, what| {
            let content = coprocessor.key_file(kind, described.key_set_id).await;
            let content = content.map_err(|status| anyhow::anyhow!("{}", with_causes(&status)));
            Ok::<Arc<[u8]>, anyhow::Error>(content.with_context(|| format!("cannot fetch {what}"))?.as_ref().into())
        };
        let public_key = fetch(KeyFileKind::PublicKey, "the public key").await?;
        let crs = fetch(KeyFileKind::Crs, "the reference string").await?;
        let keys = Self::new(&manifest, public_key, crs).context("what the coprocessor sent")?;
        if let Some(cache) = cache {
            keys.keep(cache, &described.manifest)?;
        }
        Ok(keys)
    }

    /// Reads the files of a key set where they were kept.
    ///
    /// # Errors
    /// If they were not, or are not those of the id.
    pub(crate) fn kept(cache: &Path, id: B256) -> Result<Self> {
        let directory = directory(cache, id);
        let read = |file: &str| fs::read(directory.join(file)).with_context(|| format!("cannot read {}", directory.join(file).display()));
        let manifest = Manifest::parse(&read(MANIFEST)?)?;
        ensure!(
            manifest.id.as_bytes() == &id.0,
            "another key set is kept in {}",
            directory.display()
        );
        Self::new(&manifest, read(PUBLIC_KEY)?.into(), read(CRS)?.into())
    }

    /// Keeps the files. A half-written set has no manifest, and is written again.
    fn keep(&self, cache: &Path, manifest: &str) -> Result<()> {
        let directory = directory(cache, self.id);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        for (file, bytes) in [(PUBLIC_KEY, &*self.public_key), (CRS, &*self.crs), (MANIFEST, manifest.as_bytes())] {
            let (unfinished, path) = (directory.join(format!("{file}.new-{}", std::process::id())), directory.join(file));
            let written = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &path));
            written.with_context(|| format!("cannot keep {}", path.display()))?;
        }
        Ok(())
    }
}

fn directory(cache: &Path, id: B256) -> PathBuf {
    cache.join(hex::encode(id))
}

/// The keys that a gateway serves, which its coprocessors may replace.
pub(crate) struct CurrentKeys(RwLock<PublicKeys>);

impl CurrentKeys {
    /// Serves these.
    pub(crate) const fn new(keys: PublicKeys) -> Self {
        Self(RwLock::new(keys))
    }

    /// Returns the id of what is served.
    pub(crate) fn id(&self) -> B256 {
        self.get().id
    }

    /// Serves others from now on.
    pub(crate) fn replace(&self, keys: PublicKeys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn get(&self) -> PublicKeys {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KeyMaterial for CurrentKeys {
    fn public_key(&self) -> KeyFile {
        let keys = self.get();
        KeyFile {
            id: format!("{}-public-key", hex::encode(keys.id)),
            bytes: keys.public_key,
        }
    }

    fn crs(&self) -> KeyFile {
        let keys = self.get();
        KeyFile {
            id: format!("{}-crs-2048", hex::encode(keys.id)),
            bytes: keys.crs,
        }
    }
}
