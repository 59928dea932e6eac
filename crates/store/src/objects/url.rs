//! URLs of places, as operators give them on the command line.
//!
//! | URL | place | credentials |
//! |---|---|---|
//! | `file:///DIR` | a directory | |
//! | `s3://BUCKET/PREFIX` | S3 and what speaks its protocol | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …, or the machine's role |
//! | `gs://BUCKET/PREFIX` | Google Cloud Storage | `GOOGLE_SERVICE_ACCOUNT`, …, or the machine's account |
//! | `az://CONTAINER/PREFIX` | Azure Blob Storage | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, … |
//! | `https://HOST/PATH` | a published place, to read only | |
//!
//! Credentials come from the environment variables that each cloud's own tools use, and never from the URL. `?endpoint=URL` names another
//! server, such as one of MinIO, and `?region=NAME` the region of S3.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use super::{
    CiphertextDirectory, CloudObjects, PublicPlace, WebMirror,
    cloud::{Bucket, Cloud, ObjectLimits},
};
use crate::StoreError;

/// The URL of a place for ciphertext bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectsUrl {
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    Bucket(Bucket),
    Web(String),
}

impl ObjectsUrl {
    /// Opens the place with the credentials in this process's environment. Nothing is asked of a cloud yet.
    ///
    /// # Errors
    /// [`StoreError::ObjectsUrl`] if the environment lacks something that is needed, [`StoreError::File`] if a directory cannot be made.
    pub fn open(&self) -> Result<Arc<dyn PublicPlace>, StoreError> {
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        self.open_with(environment, ObjectLimits::default())
    }

    /// Opens the place with credentials and limits that are given.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
        limits: ObjectLimits,
    ) -> Result<Arc<dyn PublicPlace>, StoreError> {
        Ok(match &self.place {
            Place::Directory(path) => Arc::new(CiphertextDirectory::open(path)?),
            Place::Bucket(bucket) => Arc::new(CloudObjects::open(bucket, environment, limits)?),
            Place::Web(url) => Arc::new(WebMirror::open(url, limits)?),
        })
    }

    /// Says whether bytes can be put there; what is published on the web is only read.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        !matches!(self.place, Place::Web(_))
    }
}

impl std::fmt::Display for ObjectsUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Directory(path) => write!(f, "file://{}", path.display()),
            Place::Bucket(bucket) => bucket.fmt(f),
            Place::Web(url) => f.write_str(url),
        }
    }
}

impl FromStr for ObjectsUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| refused("it begins with file://, s3://, gs://, az:// or https://"))?;
        let place = match scheme {
            "file" if rest.starts_with('/') => Place::Directory(PathBuf::from(rest)),
            "file" => return Err(refused("a directory is named from the root: file:///DIR")),
            "s3" => Place::Bucket(bucket(Cloud::S3, rest)?),
            "gs" => Place::Bucket(bucket(Cloud::Google, rest)?),
            "az" => Place::Bucket(bucket(Cloud::Azure, rest)?),
            "http" | "https" if rest.contains(['?', '#', '@']) => {
                return Err(refused("the URL of a published place has neither a query nor a user"));
            }
            "http" | "https" => Place::Web(text.trim_end_matches('/').to_owned()),
            _ => return Err(refused("places are file://, s3://, gs://, az:// and, to read only, https://")),
        };
        Ok(Self { place })
    }
}

fn bucket(cloud: Cloud, rest: &str) -> Result<Bucket, StoreError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(refused("after :// comes the name of a bucket or container, and no credentials"));
    }
    let prefix = object_store::path::Path::parse(prefix).map_err(|error| refused(&error.to_string()))?;
    let (mut endpoint, mut region) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("endpoint", url)) if url.starts_with("http://") || url.starts_with("https://") => endpoint = Some(url.to_owned()),
            Some(("region", name)) if cloud == Cloud::S3 && !name.is_empty() => region = Some(name.to_owned()),
            _ => return Err(refused("its parameters are endpoint=URL and, for S3, region=NAME")),
        }
    }
    Ok(Bucket {
        cloud,
        name: name.to_owned(),
        prefix,
        endpoint,
        region,
    })
}

/// The URL itself is not repeated: somebody may have put a secret into it.
fn refused(reason: &str) -> StoreError {
    StoreError::ObjectsUrl(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_places_are_read_and_shown_without_parameters() {
        for (url, shown) in [
            ("file:///var/lib/ciphertexts", "file:///var/lib/ciphertexts"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("s3://bucket/a?endpoint=http://127.0.0.1:9000&region=eu-central-2", "s3://bucket/a"),
            ("gs://bucket/a?endpoint=https://storage.example", "gs://bucket/a"),
            ("az://container/a", "az://container/a"),
            ("https://mirror.example/ciphertexts/", "https://mirror.example/ciphertexts"),
        ] {
            assert_eq!(url.parse::<ObjectsUrl>().unwrap().to_string(), shown);
        }
        assert!(!"https://mirror.example".parse::<ObjectsUrl>().unwrap().is_writable());
    }

    #[test]
    fn other_urls_are_refused_and_never_repeated() {
        for url in [
            "secret",
            "file://secret",
            "ftp://secret/a",
            "s3://",
            "s3://key:secret@bucket/a",
            "s3://bucket/../secret",
            "s3://bucket/a?endpoint=secret",
            "s3://bucket/a?secret=1",
            "gs://bucket?region=secret",
            "https://user:secret@mirror.example",
            "https://mirror.example/a?token=secret",
        ] {
            let error = url.parse::<ObjectsUrl>().unwrap_err().to_string();
            assert!(!error.contains("key:secret") && !error.contains("token"), "{url}: {error}");
            assert!(
                error.starts_with("the URL of a place for ciphertexts cannot be used: "),
                "{url}: {error}"
            );
        }
    }
}
