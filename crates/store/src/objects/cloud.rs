//! Buckets as places: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! **Putting** is conditional: bytes are sent with the condition that nothing has their name, so that repeating it costs the server nothing and
//! two processes do not overwrite each other. An object that is there is looked at: one of another length was damaged and is replaced, one
//! that has become old is written anew, which renews its time as [`CiphertextDirectory`](super::CiphertextDirectory) does. Where a server knows no conditions
//! (`AWS_CONDITIONAL_PUT=disabled`), bytes are written over what is there, which are the same.
//!
//! **Removing** is for what was put long ago. On S3 the request carries the object's ETag, so that a server that checks it keeps what was
//! put again a moment before. Google's and Azure's have no such check here: the moment between looking and removing remains.
//!
//! **Failures** of server and network are tried again with growing pauses and a limit on the time of all tries.

use std::{sync::Arc, time::Duration};

use cipherloom_primitives::B256;
use object_store::{
    BackoffConfig, ClientConfigKey, Error as CloudError, HeaderValue, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    client::{HttpClient, HttpRequest, HttpRequestBody},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    path::Path,
    signer::Signer,
};

use super::{CiphertextObjects, MAX_DOCUMENT_BYTES, MAX_OBJECT_BYTES, PublicPlace, failed, object_name, transport::Transport};
use crate::{StoreError, StoreFuture};

/// How long ago an object must have been put for it to be removed.
const REMOVABLE_AFTER: Duration = Duration::from_secs(600);

/// How old an object may be for putting it again to leave it as it is. Far enough below [`REMOVABLE_AFTER`] for what was put to be referred
/// to before it can be removed.
const RENEWED_AFTER: Duration = Duration::from_secs(300);

/// How long the permission to remove one object is valid.
const REMOVAL_VALID_FOR: Duration = Duration::from_secs(60);

/// Limits on the time and number of requests to a place over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLimits {
    /// How long one request may take, its answer included.
    pub request: Duration,
    /// How often a request that failed is sent again.
    pub retries: usize,
    /// The pause before it is sent again for the first time; later ones grow.
    pub first_pause: Duration,
    /// How long after the first request no other is sent.
    pub all: Duration,
}

impl Default for ObjectLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(20),
            retries: 5,
            first_pause: Duration::from_millis(100),
            all: Duration::from_secs(45),
        }
    }
}

/// Whose protocol a bucket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Google,
    Azure,
}

/// A bucket, as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) cloud: Cloud,
    pub(super) name: String,
    pub(super) prefix: Path,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.cloud {
            Cloud::S3 => "s3",
            Cloud::Google => "gs",
            Cloud::Azure => "az",
        };
        write!(f, "{scheme}://{}", self.name)?;
        if self.prefix.as_ref().is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.prefix)
        }
    }
}

/// Objects in a bucket.
#[derive(Clone)]
pub struct CloudObjects {
    store: Arc<dyn ObjectStore>,
    /// How objects are removed under a condition, where that is possible.
    remover: Option<Remover>,
    bucket: Bucket,
}

#[derive(Clone)]
struct Remover {
    signer: Arc<AmazonS3>,
    client: HttpClient,
}

impl std::fmt::Debug for CloudObjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The store knows credentials.
        f.debug_struct("CloudObjects").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl CloudObjects {
    pub(super) fn open(
        bucket: &Bucket,
        environment: impl IntoIterator<Item = (String, String)>,
        limits: ObjectLimits,
    ) -> Result<Self, StoreError> {
        let transport = Transport {
            request_limit: limits.request,
        };
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: limits.first_pause,
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: limits.retries,
            retry_timeout: limits.all,
        };
        let settings = Settings {
            environment: environment.into_iter().collect(),
            in_the_clear: bucket.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")),
            transport,
            retry,
        };
        let (store, remover) = match bucket.cloud {
            Cloud::S3 => settings.s3(bucket)?,
            Cloud::Google => (settings.google(bucket)?, None),
            Cloud::Azure => (settings.azure(bucket)?, None),
        };
        Ok(Self {
            store,
            remover,
            bucket: bucket.clone(),
        })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.bucket.prefix.clone(), |path, part| path.join(part))
    }

    fn failed(&self, action: &'static str, name: &str, error: CloudError) -> StoreError {
        failed(action, format!("{}/{name}", self.bucket), error)
    }

    async fn put_object(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let payload = PutPayload::from(bytes.to_vec());
        let create = PutOptions::from(PutMode::Create);
        let overwrite = || self.overwrite(name, &path, payload.clone());
        match self.store.put_opts(&path, payload.clone(), create).await {
            Ok(_) => Ok(()),
            Err(CloudError::AlreadyExists { .. }) => match self.store.head(&path).await {
                Ok(found) if usize::try_from(found.size) == Ok(bytes.len()) && age(&found) < RENEWED_AFTER => Ok(()),
                // It was removed since, is damaged, or could be removed soon.
                Ok(_) | Err(CloudError::NotFound { .. }) => overwrite().await,
                Err(error) => Err(self.failed("look at", name, error)),
            },
            Err(CloudError::NotImplemented { .. } | CloudError::NotSupported { .. }) => overwrite().await,
            Err(error) => Err(self.failed("put", name, error)),
        }
    }

    async fn overwrite(&self, name: &str, path: &Path, payload: PutPayload) -> Result<(), StoreError> {
        match self.store.put_opts(path, payload, PutOptions::from(PutMode::Overwrite)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed("put", name, error)),
        }
    }

    async fn get(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let found = match self.store.get(&self.path(name)).await {
            Ok(found) => found,
            Err(CloudError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", name, error)),
        };
        if usize::try_from(found.meta.size).map_or(true, |size| size > limit) {
            let reason = format!("it has {} bytes, more than {limit}", found.meta.size);
            return Err(failed("read", format!("{}/{name}", self.bucket), reason));
        }
        match found.bytes().await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(error) => Err(self.failed("read", name, error)),
        }
    }

    async fn remove_object(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        let found = match self.store.head(&path).await {
            Ok(found) => found,
            Err(CloudError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(self.failed("look at", name, error)),
        };
        if age(&found) < REMOVABLE_AFTER {
            return Ok(());
        }
        let removed = match (&self.remover, &found.e_tag) {
            (Some(remover), Some(e_tag)) => remover.remove(&path, e_tag).await,
            _ => match self.store.delete(&path).await {
                Err(CloudError::NotFound { .. }) => Ok(()),
                other => other,
            },
        };
        removed.map_err(|error| self.failed("remove", name, error))
    }
}

/// How long ago an object was put, by the place's clock and ours. One that seems to come from the future is new.
fn age(object: &object_store::ObjectMeta) -> Duration {
    let put: std::time::SystemTime = object.last_modified.into();
    std::time::SystemTime::now().duration_since(put).unwrap_or_default()
}

impl Remover {
    /// Removes an object if it is still the one with this tag.
    async fn remove(&self, path: &Path, e_tag: &str) -> Result<(), CloudError> {
        let generic = |source: Box<dyn std::error::Error + Send + Sync>| CloudError::Generic { store: "S3", source };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let delete = "DELETE".parse().map_err(|error| generic(Box::new(error)))?;
        *request.method_mut() = delete;
        let url = self.signer.signed_url(request.method().clone(), path, REMOVAL_VALID_FOR).await?;
        *request.uri_mut() = url.as_str().parse().map_err(|error| generic(Box::new(error)))?;
        let tag = HeaderValue::from_str(e_tag).map_err(|error| generic(Box::new(error)))?;
        request.headers_mut().insert("if-match", tag);
        let response = self.client.execute(request).await.map_err(|error| generic(Box::new(error)))?;
        match response.status().as_u16() {
            // Gone already, or put again meanwhile: both as it should be.
            200..300 | 404 | 409 | 412 => Ok(()),
            status => Err(generic(format!("the server answers {status}").into())),
        }
    }
}

/// What the builders of all clouds are given.
struct Settings {
    environment: Vec<(String, String)>,
    in_the_clear: bool,
    transport: Transport,
    retry: RetryConfig,
}

impl Settings {
    /// Returns the settings of a cloud that the environment has.
    fn known<K: std::str::FromStr>(&self, prefix: &'static str) -> impl Iterator<Item = (K, &str)> {
        self.environment
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.as_str())))
    }

    fn s3(self, bucket: &Bucket) -> Result<(Arc<dyn ObjectStore>, Option<Remover>), StoreError> {
        let mut builder = AmazonS3Builder::new();
        for (key, value) in self.known::<AmazonS3ConfigKey>("AWS_") {
            builder = builder.with_config(key, value);
        }
        builder = builder
            .with_bucket_name(&bucket.name)
            .with_retry(self.retry)
            .with_http_connector(self.transport);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        if self.in_the_clear {
            builder = builder.with_allow_http(true);
        }
        if let Some(region) = &bucket.region {
            builder = builder.with_region(region);
        }
        let in_the_clear = builder
            .get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp))
            .as_deref()
            == Some("true");
        let store = Arc::new(builder.build().map_err(unusable)?);
        let client = self
            .transport
            .client(in_the_clear)
            .map_err(|error| StoreError::ObjectsUrl(error.to_string()))?;
        let remover = Remover {
            signer: Arc::clone(&store),
            client,
        };
        Ok((store, Some(remover)))
    }

    fn google(self, bucket: &Bucket) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut builder = GoogleCloudStorageBuilder::new();
        for (key, value) in self.known::<GoogleConfigKey>("GOOGLE_") {
            builder = builder.with_config(key, value);
        }
        builder = builder
            .with_bucket_name(&bucket.name)
            .with_retry(self.retry)
            .with_http_connector(self.transport);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        if self.in_the_clear {
            builder = builder.with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), "true");
        }
        Ok(Arc::new(builder.build().map_err(unusable)?))
    }

    fn azure(self, bucket: &Bucket) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let mut builder = MicrosoftAzureBuilder::new();
        for (key, value) in self.known::<AzureConfigKey>("AZURE_") {
            builder = builder.with_config(key, value);
        }
        builder = builder
            .with_container_name(&bucket.name)
            .with_retry(self.retry)
            .with_http_connector(self.transport);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        if self.in_the_clear {
            builder = builder.with_allow_http(true);
        }
        Ok(Arc::new(builder.build().map_err(unusable)?))
    }
}

fn unusable(error: CloudError) -> StoreError {
    StoreError::ObjectsUrl(error.to_string())
}

impl CiphertextObjects for CloudObjects {
    fn put<'a>(&'a self, digest: B256, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.put_object(&object_name(digest), bytes).await })
    }

    fn read(&self, digest: B256) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move { self.get(&object_name(digest), MAX_OBJECT_BYTES).await })
    }

    fn remove(&self, digest: B256) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.remove_object(&object_name(digest)).await })
    }
}

impl PublicPlace for CloudObjects {
    fn put_document<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.overwrite(name, &self.path(name), PutPayload::from(bytes.to_vec())).await })
    }

    fn document<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Option<Vec<u8>>> {
        Box::pin(self.get(name, MAX_DOCUMENT_BYTES))
    }
}
