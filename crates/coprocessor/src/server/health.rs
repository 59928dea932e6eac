//! What the standard health service says: serving, unless the server is stopping or its database is not there.

use std::{sync::Arc, time::Duration};

use cipherloom_rpc::{cipherloom::coprocessor::v1::coprocessor_server, fhevm::coprocessor::fhevm_coprocessor_server};
use cipherloom_store::Database;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

/// How long the database has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the health service how things are.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) reporter: HealthReporter,
}

impl Health {
    /// Asks the database now and then, until told to stop; then says that nothing is served.
    pub(super) async fn watch(self, database: Arc<dyn Database>, interval: Duration, stop: CancellationToken) {
        let mut serving = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
            }
            let answer = tokio::select! {
                () = stop.cancelled() => break,
                answer = timeout(PATIENCE, database.ping()) => answer,
            };
            let found = match answer {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    if serving {
                        tracing::warn!(%error, "the database is not available");
                    }
                    false
                }
                Err(_) => {
                    if serving {
                        tracing::warn!("the database does not answer");
                    }
                    false
                }
            };
            if found != serving {
                self.set(found).await;
                serving = found;
            }
        }
        self.set(false).await;
    }

    pub(super) async fn set(&self, serving: bool) {
        let status = if serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for service in ["", fhevm_coprocessor_server::SERVICE_NAME, coprocessor_server::SERVICE_NAME] {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
