//! Who may come in: decided before the body of a request is read.
//!
//! Requests have places: a number of all, and of each tenant's. A request keeps its place until its answer is sent or its caller is gone, so that slow
//! senders and readers cannot make the server hold more than it admits, and a tenant that sends too much takes none of another's places. Requests
//! without a valid key share a few places of their own; they are admitted at all because what is wrong with their size is told first.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use cipherloom_telemetry::transaction;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tonic::{
    Request, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
    transport::server::TlsConnectInfo,
};
use tracing::{Instrument as _, Span, error_span, field::Empty, info_span};

use super::{
    authentication::{Authentication, Caller},
    config::ServerLimits,
    error::RequestError,
    incoming::TenantConnection,
};

/// How many requests without a valid key are received at a time.
const STRANGERS: u32 = 4;

/// Admits requests up to a number, until it is closed.
#[derive(Clone)]
pub(super) struct Admission {
    authentication: Arc<Authentication>,
    places: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    tenants: Tenants,
    count: u32,
}

/// What an admitted request carries with it: who asks, or why that is not known.
#[derive(Clone)]
pub(super) struct Admitted(Arc<Result<Arc<Caller>, RequestError>>);

/// The places of a request.
struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: Option<TenantPlace>,
}

impl Admission {
    pub(super) fn new(authentication: Authentication, limits: &ServerLimits) -> Self {
        let count = u32::try_from(limits.requests).unwrap_or(u32::MAX).clamp(1, u32::from(u16::MAX));
        Self {
            authentication: Arc::new(authentication),
            places: Arc::new(Semaphore::new(count as usize)),
            strangers: Arc::new(Semaphore::new(STRANGERS as usize)),
            tenants: Tenants {
                limit: limits.requests_per_tenant.max(1),
                inside: Arc::default(),
            },
            count,
        }
    }

    async fn admit(&self, headers: &http::HeaderMap) -> Result<(Place, Admitted), RequestError> {
        let caller = self.authentication.caller(headers).await;
        let place = match &caller {
            Ok(caller) => Place {
                _of_tenant: Some(self.tenants.enter(caller.tenant.id.number())?),
                _of_all: place_of(&self.places)?,
            },
            Err(RequestError::Unauthenticated) => Place {
                _of_tenant: None,
                _of_all: place_of(&self.strangers)?,
            },
            Err(_) => return Err(caller.err().unwrap_or(RequestError::Internal)),
        };
        Ok((place, Admitted(Arc::new(caller))))
    }

    /// Admits nobody any more, and waits until those who were are gone.
    pub(super) async fn close(&self) {
        // Closing wakes nobody who waits for places, so they are taken first, as they become free.
        let all = tokio::join!(self.places.acquire_many(self.count), self.strangers.acquire_many(STRANGERS));
        self.places.close();
        self.strangers.close();
        drop(all);
    }
}

fn place_of(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, RequestError> {
    Arc::clone(places).try_acquire_owned().map_err(|error| match error {
        TryAcquireError::NoPermits => RequestError::Busy,
        TryAcquireError::Closed => RequestError::Stopping,
    })
}

impl Admitted {
    /// Returns who asks.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, or `INTERNAL` if the request came in another way.
    pub(super) fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, RequestError> {
        match request.extensions().get::<Self>().map(|admitted| &*admitted.0) {
            Some(Ok(caller)) => Ok(Arc::clone(caller)),
            Some(Err(_)) => Err(RequestError::Unauthenticated),
            None => Err(RequestError::Internal),
        }
    }
}

/// How many requests of each tenant are inside, by the tenants' numbers.
#[derive(Clone)]
struct Tenants {
    limit: usize,
    inside: Arc<Mutex<HashMap<i32, usize>>>,
}

/// A request's place among those of its tenant.
struct TenantPlace {
    tenant: i32,
    inside: Arc<Mutex<HashMap<i32, usize>>>,
}

impl Tenants {
    fn enter(&self, tenant: i32) -> Result<TenantPlace, RequestError> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inside.entry(tenant).or_default();
        if *count >= self.limit {
            return Err(RequestError::Busy);
        }
        *count += 1;
        Ok(TenantPlace {
            tenant,
            inside: Arc::clone(&self.inside),
        })
    }
}

impl Drop for TenantPlace {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.tenant);
            }
        }
    }
}

/// A service that is asked only by admitted requests.
#[derive(Clone)]
pub(super) struct Admitting<S> {
    pub(super) admission: Admission,
    pub(super) service: S,
}

impl<S: NamedService> NamedService for Admitting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Admitting<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        // The one that is ready is asked, and its copy takes its place here.
        let copy = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, copy);
        let admission = self.admission.clone();
        if admission.places.is_closed() {
            return Box::pin(ready(Ok(Status::from(RequestError::Stopping).into_http())));
        }
        let span = span_of(request.uri().path(), request.headers());
        let answering = async move {
            let admitting = admission.admit(request.headers()).instrument(info_span!("authenticate"));
            let (place, admitted) = match admitting.await {
                Ok(admitted) => admitted,
                Err(error) => return Ok(Status::from(error).into_http()),
            };
            if admitted.0.is_ok() {
                note_tenant(request.extensions());
            }
            request.extensions_mut().insert(admitted);
            let answer = service.call(request).await?;
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _place = &place;
                    frame
                }))
            }))
        };
        Box::pin(answering.instrument(span))
    }
}

/// Begins the span of a call, in the trace that its caller names. It is part of every line that is logged about the call, whatever is logged.
fn span_of(path: &str, headers: &http::HeaderMap) -> Span {
    let rpc = match path.rsplit('/').next().unwrap_or_default() {
        "AsyncCompute" => "AsyncCompute",
        "UploadInputs" => "UploadInputs",
        "GetCiphertexts" => "GetCiphertexts",
        "TrivialEncryptCiphertexts" => "TrivialEncryptCiphertexts",
        "Describe" => "Describe",
        "GetKeyFile" => "GetKeyFile",
        "AdmitInput" => "AdmitInput",
        "WatchHandles" => "WatchHandles",
        "GetSignedCiphertext" => "GetSignedCiphertext",
        _ => "unknown",
    };
    let span = error_span!(
        "request",
        otel.name = rpc,
        otel.kind = "server",
        rpc,
        tenant = Empty,
        items = Empty,
        code = Empty
    );
    transaction::join_caller(&span, |header| headers.get(header)?.to_str().ok().map(str::to_owned));
    span
}

/// Notes on the request's connection that a tenant uses it.
fn note_tenant(extensions: &http::Extensions) {
    let encrypted = extensions.get::<TlsConnectInfo<TenantConnection>>().map(TlsConnectInfo::get_ref);
    if let Some(connection) = encrypted.or_else(|| extensions.get()) {
        connection.is_used();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_number_of_places() {
        let inside = Arc::<Mutex<HashMap<i32, usize>>>::default();
        let tenants = Tenants {
            limit: 2,
            inside: Arc::clone(&inside),
        };
        let (one, other) = (1, 2);
        let places = [tenants.enter(one).unwrap(), tenants.enter(one).unwrap()];
        assert!(matches!(tenants.enter(one), Err(RequestError::Busy)));
        assert!(tenants.enter(other).is_ok());
        drop(places);
        assert!(tenants.enter(one).is_ok());
        assert!(inside.lock().unwrap().is_empty(), "nothing is kept for who has no request");
    }
}
