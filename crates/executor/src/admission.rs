//! Who may come in: decided before the body of a request is read.
//!
//! A request keeps its place until its answer is sent or its client is gone, so that slow senders and readers cannot make the executor hold more
//! than the requests and answers it admits.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::Instant,
};
use tonic::{
    Request, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

/// Admits requests up to a number, until it is closed.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    count: u32,
    request_timeout: Duration,
}

/// What an admitted request carries with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    /// When it has to be answered.
    pub(crate) deadline: Instant,
}

impl Admission {
    pub(crate) fn new(places: usize, request_timeout: Duration) -> Self {
        let count = u32::try_from(places).unwrap_or(u32::MAX).min(u32::from(u16::MAX));
        Self {
            places: Arc::new(Semaphore::new(count as usize)),
            count,
            request_timeout,
        }
    }

    fn admit<B>(&self, request: &mut http::Request<B>) -> Result<OwnedSemaphorePermit, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => {
                Status::resource_exhausted("the executor computes as many requests as it may; try again, or ask another one")
            }
            TryAcquireError::Closed => Status::unavailable("the executor is stopping; ask another one"),
        })?;
        let timeout = client_timeout(request.headers()).map_or(self.request_timeout, |timeout| timeout.min(self.request_timeout));
        request.extensions_mut().insert(Admitted {
            deadline: Instant::now() + timeout,
        });
        Ok(place)
    }

    /// Admits nobody any more, and waits until those who were are gone.
    pub(crate) async fn close(&self) {
        // Closing wakes nobody who waits for places, so they are taken first, as they become free.
        let all = self.places.acquire_many(self.count).await;
        self.places.close();
        drop(all);
    }
}

impl Admitted {
    /// Takes what the admission left with a request.
    ///
    /// # Errors
    /// `INTERNAL` if the request came in another way.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let admitted = request.extensions().get::<Self>().copied();
        admitted.ok_or_else(|| Status::internal("the request was not admitted"))
    }
}

/// A service that is asked only by admitted requests.
#[derive(Clone, Debug)]
pub(crate) struct Admitting<S> {
    pub(crate) admission: Admission,
    pub(crate) service: S,
}

impl<S: NamedService> NamedService for Admitting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Admitting<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let place = match self.admission.admit(&mut request) {
            Ok(place) => place,
            Err(status) => return Box::pin(ready(Ok(status.into_http()))),
        };
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _place = &place;
                    frame
                }))
            }))
        })
    }
}

/// Reads the client's deadline, a number and a unit, as gRPC over HTTP/2 has it.
fn client_timeout(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_in_every_unit() {
        let timeout = |text: &'static str| {
            let headers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())]);
            client_timeout(&headers)
        };
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout("4S"), Some(Duration::from_secs(4)));
        assert_eq!(timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("9u"), Some(Duration::from_micros(9)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for malformed in ["", "S", "-1S", "1", "1x", "123456789S"] {
            assert_eq!(timeout(malformed), None, "{malformed:?}");
        }
    }

    #[test]
    fn a_place_is_free_again_when_it_is_given_up() {
        let admission = Admission::new(1, Duration::from_secs(1));
        let code = |admission: &Admission| admission.admit(&mut http::Request::new(())).map_err(|status| status.code());
        let place = code(&admission).unwrap();
        assert_eq!(code(&admission).unwrap_err(), tonic::Code::ResourceExhausted);
        drop(place);
        assert!(code(&admission).is_ok());
    }

    #[tokio::test]
    async fn closing_waits_for_those_inside_and_lets_nobody_in() {
        let admission = Admission::new(2, Duration::from_secs(1));
        let place = admission.admit(&mut http::Request::new(())).unwrap();
        let mut closing = std::pin::pin!(admission.close());
        assert!(futures_util::poll!(closing.as_mut()).is_pending());
        assert!(admission.admit(&mut http::Request::new(())).is_err());
        drop(place);
        closing.await;
        let refused = admission.admit(&mut http::Request::new(())).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
    }
}
