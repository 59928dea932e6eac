//! From the connections to whoever uses the network: urgent things overtake blocks, and both overtake transactions.
//!
//! If the user does not keep up, the connections are read no further, except that transactions are dropped.

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::network::{Channel, Received};

/// Small messages that may wait.
const URGENT: usize = 1024;

/// Blocks and requests that may wait.
const BULK: usize = 8;

/// Transactions that may wait.
const TRANSACTIONS: usize = 512;

/// What may wait at the user's end.
const OUTER: usize = 32;

/// Something to be delivered, and its share of the memory for strangers' messages.
type Parcel = (Received, Option<OwnedSemaphorePermit>);

/// Takes what connections receive.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    urgent: mpsc::Sender<Parcel>,
    bulk: mpsc::Sender<Parcel>,
    transactions: mpsc::Sender<Parcel>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// It is on its way.
    Yes,
    /// There was no room.
    Dropped,
    /// Nobody takes messages any more.
    Closed,
}

impl Delivery {
    /// Delivers something; waits if there is no room.
    pub(super) async fn deliver(&self, received: Received, share: Option<OwnedSemaphorePermit>) -> Delivered {
        let queue = match &received {
            Received::Message {
                channel: Channel::Transactions,
                ..
            } => {
                return match self.transactions.try_send((received, share)) {
                    Ok(()) => Delivered::Yes,
                    Err(mpsc::error::TrySendError::Full(_)) => Delivered::Dropped,
                    Err(mpsc::error::TrySendError::Closed(_)) => Delivered::Closed,
                };
            }
            Received::Message {
                channel: Channel::Blocks, ..
            }
            | Received::Request { .. } => &self.bulk,
            _ => &self.urgent,
        };
        match queue.send((received, share)).await {
            Ok(()) => Delivered::Yes,
            Err(_) => Delivered::Closed,
        }
    }
}

/// Makes both ends, and what has to run in between: it ends when `stop` is cancelled, or cancels it when the user is gone.
pub(super) fn delivery(stop: CancellationToken) -> (Delivery, mpsc::Receiver<Received>, impl Future<Output = ()> + Send) {
    let (urgent, mut urgent_end) = mpsc::channel::<Parcel>(URGENT);
    let (bulk, mut bulk_end) = mpsc::channel::<Parcel>(BULK);
    let (transactions, mut transactions_end) = mpsc::channel::<Parcel>(TRANSACTIONS);
    let (outer, user) = mpsc::channel(OUTER);
    let pump = async move {
        loop {
            // The place at the user's end comes first: what is most urgent when there is one, goes.
            let place = tokio::select! {
                () = stop.cancelled() => return,
                place = outer.reserve() => place,
            };
            let Ok(place) = place else {
                stop.cancel();
                return;
            };
            let parcel = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(parcel) = urgent_end.recv() => parcel,
                Some(parcel) = bulk_end.recv() => parcel,
                Some(parcel) = transactions_end.recv() => parcel,
                () = outer.closed() => {
                    stop.cancel();
                    return;
                }
            };
            place.send(parcel.0);
        }
    };
    let delivery = Delivery {
        urgent,
        bulk,
        transactions,
    };
    (delivery, user, pump)
}
