//! Who may come in: before the body of a request is read.
//!
//! A request keeps its place until its answer is sent or its client is gone, so that slow senders cannot make the executor take more memory than
//! for the requests it admits.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};

/// Admits requests up to a number.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    request_timeout: Duration,
}

/// What an admitted request carries with it.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// When it has to be answered.
    pub(crate) deadline: Instant,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(places: usize, request_timeout: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            request_timeout,
        }
    }
}

impl Interceptor for Admission {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("the executor computes as many requests as it may; try again, or ask another one"))?;
        let timeout = client_timeout(request.metadata()).map_or(self.request_timeout, |timeout| timeout.min(self.request_timeout));
        request.extensions_mut().insert(Admitted {
            deadline: Instant::now() + timeout,
            _place: Arc::new(place),
        });
        Ok(request)
    }
}

impl Admitted {
    /// Takes what the admission left with a request.
    ///
    /// # Errors
    /// `INTERNAL` if the request came in another way.
    pub(crate) fn of<T>(request: &mut Request<T>) -> Result<Self, Status> {
        let admitted = request.extensions_mut().remove::<Self>();
        admitted.ok_or_else(|| Status::internal("the request was not admitted"))
    }
}

/// Reads the client's deadline, a number and a unit, as gRPC over HTTP/2 has it.
fn client_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
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
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            client_timeout(&metadata)
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
    fn a_place_is_free_again_when_its_request_is_dropped() {
        let mut admission = Admission::new(1, Duration::from_secs(1));
        let mut first = admission.call(Request::new(())).unwrap();
        assert_eq!(admission.call(Request::new(())).unwrap_err().code(), tonic::Code::ResourceExhausted);
        let admitted = Admitted::of(&mut first).unwrap();
        drop(first);
        assert!(admission.call(Request::new(())).is_err());
        drop(admitted);
        assert!(admission.call(Request::new(())).is_ok());
    }
}
