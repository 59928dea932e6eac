//! The manifest of a key set.

use std::{
    fs::File,
    io::{Read, Take},
    path::{Path, PathBuf},
};

use cipherloom_primitives::HotWindow;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use zeroize::Zeroizing;

use super::generate::Material;
use crate::{error::FheError, parameters::ParameterSet};

/// The manifest's file name.
pub(super) const FILE: &str = "manifest.json";
const FORMAT: u32 = 2;
const MAX_MANIFEST_BYTES: u64 = 1 << 16;
/// The most bytes any part has; those that read a part have tighter limits.
const MAX_PART_BYTES: u64 = 1 << 29;
const ID_DOMAIN: &[u8] = b"cipherloom key set 1";

/// Names a key set: a digest of its parameter set's name, its public key and its reference string.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySetId([u8; 32]);

/// What is in a key set's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format, 2.
    pub format: u32,
    /// The key set's id.
    pub id: KeySetId,
    /// The parameter set's name; see [`ParameterSet::name`].
    pub parameters: String,
    /// What the set can do.
    pub capabilities: Capabilities,
    /// How many blocks after its creation a value is read in raw form. All coprocessors of a key set must have the same number.
    pub hot_window_blocks: HotWindow,
    /// The other files.
    pub parts: Parts,
}

/// The one field that all formats have.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// What the evaluation key of a set can do besides the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Random values from a secret of their own.
    pub dedicated_random_key: bool,
    /// Re-randomisation of ciphertexts before a computation.
    pub re_randomization: bool,
    /// The packed form of ciphertexts.
    pub compression: bool,
    /// Noise squashing, which threshold decryption needs. It has [parts](Parts::squashing) of its own.
    pub noise_squashing: bool,
}

/// The files of a key set besides the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// What clients encrypt inputs to.
    pub public_key: Part,
    /// The reference string of the input proofs.
    pub crs: Part,
    /// What computations need, compressed.
    pub evaluation_key: Part,
    /// What decryptions need. The file may be absent.
    pub secret_key: Part,
    /// What noise squashing needs, if the set can do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub squashing: Option<SquashingParts>,
}

/// The files of noise squashing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SquashingParts {
    /// Squashes, compressed.
    pub key: Part,
    /// Packs squashed values into lists, compressed.
    pub packing_key: Part,
    /// What squashed values are decrypted with, if it was ever written to a file. The file may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Part>,
}

/// A file of a key set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The file's name in the directory of the manifest.
    pub file: String,
    /// Its size.
    pub size_bytes: u64,
    /// The SHA3-256 digest of its content, in hexadecimal.
    pub sha3_256: String,
}

impl KeySetId {
    /// Computes the id of the set with this material.
    #[must_use]
    pub fn of(parameters: ParameterSet, public_key: &[u8], crs: &[u8]) -> Self {
        let hasher = Sha3_256::new()
            .chain_update(ID_DOMAIN)
            .chain_update(Sha3_256::digest(parameters.name()))
            .chain_update(Sha3_256::digest(public_key))
            .chain_update(Sha3_256::digest(crs));
        Self(hasher.finalize().into())
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for KeySetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for KeySetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySetId({self})")
    }
}

impl Serialize for KeySetId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeySetId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads 64 hexadecimal digits, as they are written.
impl std::str::FromStr for KeySetId {
    type Err = FheError;

    fn from_str(text: &str) -> Result<Self, FheError> {
        unhex(text).map(Self).ok_or(FheError::KeySetId)
    }
}

impl Manifest {
    /// Describes generated material.
    pub(super) fn describe(parameters: ParameterSet, material: &Material) -> Self {
        let real = parameters.cpu().is_some();
        Self {
            format: FORMAT,
            id: KeySetId::of(parameters, &material.public_key, &material.crs),
            parameters: parameters.name().to_owned(),
            capabilities: Capabilities {
                dedicated_random_key: real,
                re_randomization: real,
                compression: real,
                noise_squashing: false,
            },
            hot_window_blocks: HotWindow::DEFAULT,
            parts: Parts {
                public_key: Part::describe("public_key.bin", &material.public_key),
                crs: Part::describe("crs.bin", &material.crs),
                evaluation_key: Part::describe("evaluation_key.bin", &material.evaluation_key),
                secret_key: Part::describe("secret_key.bin", &material.secret_key),
                squashing: None,
            },
        }
    }

    /// Describes the same set with noise squashing.
    pub(super) fn with_squashing(&self, squashing: SquashingParts) -> Self {
        Self {
            capabilities: Capabilities {
                noise_squashing: true,
                ..self.capabilities
            },
            parts: Parts {
                squashing: Some(squashing),
                ..self.parts.clone()
            },
            ..self.clone()
        }
    }

    /// Reads the manifest of a directory.
    pub(super) fn read(directory: &Path) -> Result<Self, FheError> {
        let path = directory.join(FILE);
        let mut bytes = Vec::new();
        let mut file = open(&path)?.take(MAX_MANIFEST_BYTES + 1);
        file.read_to_end(&mut bytes).map_err(|source| FheError::KeyFile { path, source })?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(FheError::key("manifest", format!("is larger than {MAX_MANIFEST_BYTES} bytes")));
        }
        Self::parse(&bytes)
    }

    /// Parses a manifest.
    ///
    /// # Errors
    /// [`FheError::KeyMaterial`] if it is not a manifest of a format and of file names this version knows.
    pub fn parse(bytes: &[u8]) -> Result<Self, FheError> {
        let Format { format } = serde_json::from_slice(bytes).map_err(|e| FheError::key("manifest", e))?;
        match format {
            FORMAT => {}
            1 => {
                return Err(FheError::key(
                    "manifest",
                    "is of format 1: its set has no keys for the packed form of ciphertexts; generate a new key set",
                ));
            }
            other => {
                return Err(FheError::key(
                    "manifest",
                    format!("is of format {other}; this version reads {FORMAT}"),
                ));
            }
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| FheError::key("manifest", e))?;
        for (_, part) in manifest.parts.all() {
            part.check()?;
        }
        if manifest.capabilities.noise_squashing != manifest.parts.squashing.is_some() {
            return Err(FheError::key(
                "manifest",
                "says something else about noise squashing than its list of parts does",
            ));
        }
        Ok(manifest)
    }

    /// Finds the parameter set the manifest names.
    pub(super) fn parameter_set(&self) -> Result<ParameterSet, FheError> {
        ParameterSet::from_name(&self.parameters).ok_or_else(|| {
            FheError::key(
                "manifest",
                format!("names parameter set {:?}, which this build does not know", self.parameters),
            )
        })
    }

    /// Writes the manifest as text.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, FheError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| FheError::key("manifest", e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Parts {
    /// Lists all parts with what manifests call them, those of noise squashing last.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        let squashing = self.squashing.as_ref();
        [
            Some(("public_key", &self.public_key)),
            Some(("crs", &self.crs)),
            Some(("evaluation_key", &self.evaluation_key)),
            Some(("secret_key", &self.secret_key)),
            squashing.map(|parts| ("squashing_key", &parts.key)),
            squashing.map(|parts| ("squashed_packing_key", &parts.packing_key)),
            squashing.and_then(|parts| Some(("squashing_secret", parts.secret.as_ref()?))),
        ]
        .into_iter()
        .flatten()
    }

    /// Lists the parts that coprocessors compute with and clients encrypt with: all but the secret ones.
    pub fn not_secret(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        self.all().filter(|(role, _)| !matches!(*role, "secret_key" | "squashing_secret"))
    }
}

impl Part {
    pub(super) fn describe(file: &str, bytes: &[u8]) -> Self {
        Self {
            file: file.to_owned(),
            size_bytes: bytes.len() as u64,
            sha3_256: hex(&Sha3_256::digest(bytes)),
        }
    }

    /// A part is a plain file next to the manifest, so that a manifest cannot point elsewhere.
    fn check(&self) -> Result<(), FheError> {
        let plain = self
            .file
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if !plain || self.file.is_empty() || self.file.starts_with('.') {
            return Err(FheError::key("manifest", format!("names a file {:?}", self.file)));
        }
        if self.size_bytes > MAX_PART_BYTES {
            return Err(FheError::key(
                &self.file,
                format!("has {} bytes; at most {MAX_PART_BYTES} are accepted", self.size_bytes),
            ));
        }
        Ok(())
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(&self.file)
    }

    /// Checks that the file is there with the right size, without reading it.
    pub(super) fn check_size(&self, directory: &Path) -> Result<(), FheError> {
        self.open(directory).map(|_| ())
    }

    /// Reads the file and checks its digest.
    pub(super) fn read(&self, directory: &Path) -> Result<Zeroizing<Vec<u8>>, FheError> {
        let mut file = self.open(directory)?;
        // Reserved in one piece: growing would leave copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(self.size_bytes).unwrap_or_default() + 1));
        file.read_to_end(&mut bytes).map_err(|source| FheError::KeyFile {
            path: self.path(directory),
            source,
        })?;
        self.check_digest(&bytes)?;
        Ok(bytes)
    }

    pub(super) fn check_digest(&self, bytes: &[u8]) -> Result<(), FheError> {
        if hex(&Sha3_256::digest(bytes)) == self.sha3_256 {
            return Ok(());
        }
        Err(FheError::key(&self.file, "does not have the digest its manifest gives"))
    }

    fn open(&self, directory: &Path) -> Result<Take<File>, FheError> {
        let path = self.path(directory);
        let file = open(&path)?;
        let size = file.metadata().map_err(|source| FheError::KeyFile { path, source })?.len();
        if size != self.size_bytes {
            return Err(FheError::key(
                &self.file,
                format!("has {size} bytes instead of {}", self.size_bytes),
            ));
        }
        Ok(file.take(self.size_bytes + 1))
    }
}

fn open(path: &Path) -> Result<File, FheError> {
    File::open(path).map_err(|source| FheError::KeyFile {
        path: path.to_owned(),
        source,
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}
