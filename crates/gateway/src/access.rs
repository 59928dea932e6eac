//! Who may ask for what, and how often.

use std::{net::IpAddr, sync::Arc};

use axum::http::HeaderMap;

use crate::{
    addresses::{AddressRange, client_address},
    clients::{ClientIndex, Clients, Operation, Unauthorized},
    clock::Clock,
    config::Config,
    error::{GatewayError, Label},
    metrics::{Admittance, Metrics},
    rate::{Payer, RateLimiter},
    services::ServiceError,
};

/// Lets requests in.
pub(crate) struct Access {
    clients: Clients,
    rate: RateLimiter,
    trusted_proxies: Vec<AddressRange>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Access {
    /// Takes what is configured.
    ///
    /// # Errors
    /// [`GatewayError::Clients`] if the clients cannot be told apart.
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, GatewayError> {
        let clients = Clients::new(config.clients.clone(), config.require_api_key)?;
        metrics.name_clients(clients.names().map(str::to_owned).collect());
        Ok(Self {
            clients,
            rate: RateLimiter::new(config.rate_limit, config.clients.iter().map(|client| client.rate_limit).collect()),
            trusted_proxies: config.trusted_proxies.clone(),
            clock,
            metrics,
        })
    }

    /// Lets a new request in. Without an address of the caller, as when no socket is involved, there is no limit by address.
    ///
    /// # Errors
    /// `unauthorized`, or `rate_limited` with the time to wait.
    pub(crate) fn post(&self, operation: Operation, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), ServiceError> {
        let address = peer.map(|peer| client_address(peer, headers, &self.trusted_proxies));
        let client = match self.clients.identify(headers) {
            Ok(client) => client,
            Err(problem) => {
                // Whoever tries keys pays for each by the address.
                self.pay(None, address)
                    .inspect_err(|_| self.count(None, operation, Admittance::Limited))?;
                self.count(None, operation, Admittance::Unauthorized);
                return Err(unauthorized(problem));
            }
        };
        self.pay(client, address)
            .inspect_err(|_| self.count(client, operation, Admittance::Limited))?;
        let allowed = client.and_then(|index| self.clients.get(index)?.operations.as_ref());
        if allowed.is_some_and(|allowed| !allowed.contains(&operation)) {
            self.count(client, operation, Admittance::Unauthorized);
            return Err(ServiceError::new(
                Label::Unauthorized,
                format!("this API key is not for {}", operation.as_str()),
            ));
        }
        self.count(client, operation, Admittance::Admitted);
        Ok(())
    }

    /// Lets a poll in. Polls are not limited: a client that may not poll cannot get what it was promised.
    ///
    /// # Errors
    /// `unauthorized`.
    pub(crate) fn poll(&self, headers: &HeaderMap) -> Result<(), ServiceError> {
        self.clients.identify(headers).map(|_| ()).map_err(unauthorized)
    }

    fn pay(&self, client: Option<ClientIndex>, address: Option<IpAddr>) -> Result<(), ServiceError> {
        let Some(payer) = client.map(Payer::Client).or(address.map(Payer::Address)) else {
            return Ok(());
        };
        self.rate.admit(payer, self.clock.now()).map_err(|delay| {
            ServiceError::new(Label::RateLimited, "this client sends requests too fast; wait before the next one").retry_after(delay)
        })
    }

    fn count(&self, client: Option<ClientIndex>, operation: Operation, admittance: Admittance) {
        self.metrics.posted(client, operation, admittance);
    }
}

fn unauthorized(problem: Unauthorized) -> ServiceError {
    let message = match problem {
        Unauthorized::Missing => "an API key is required, as x-api-key or as Authorization: Bearer",
        Unauthorized::Unknown => "this API key is not known",
    };
    ServiceError::new(Label::Unauthorized, message)
}
