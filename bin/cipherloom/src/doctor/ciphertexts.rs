//! Whether ciphertexts are where the database says, with the bytes it says.

use std::{path::Path, sync::Arc};

use cipherloom_primitives::Handle;
use cipherloom_service::report::Report;
use cipherloom_store::{
    Database, Inspection, ObjectsUrl, PublicPlace, Store, StoreError, TransactionFilter, TransactionKey, TransactionState, object_digest,
};

use super::{DoctorOptions, PATIENCE, tenants::Found};

const AREA: &str = "ciphertexts";

/// What a mirror says about itself.
const MIRROR_MANIFEST: &str = "manifest.json";

/// What to do about a place that does not answer.
const CHECK_PLACE: &str = "check the network, the URL and the credentials in the environment; nothing that was accepted is lost meanwhile";

/// How many finished transactions of a tenant are looked at without --deep.
const SAMPLE: u32 = 20;

/// How many are read at a time with --deep.
const PAGE: u32 = 500;

/// How many ciphertexts are read at a time: raw ones of 256 bits have two megabytes.
const AT_A_TIME: usize = 16;

/// What reading ciphertexts showed.
#[derive(Default)]
struct Counted {
    right: usize,
    wrong: usize,
    /// The first reason why one could not be used.
    reason: Option<String>,
    /// The process was not told where bytes are.
    no_object_store: bool,
}

/// Looks at the places that the options name: where bytes of ciphertexts are kept, and where they are published.
pub(super) async fn check_places(options: &DoctorOptions, report: &mut Report) {
    if let Some(url) = &options.coprocessor.ciphertext_store {
        let what = format!("the store of ciphertexts {url}");
        check_place(url, &what, report).await;
    }
    let Some(url) = &options.coprocessor.mirror else {
        return;
    };
    let what = format!("the mirror {url}");
    let Some(place) = check_place(url, &what, report).await else {
        return;
    };
    match tokio::time::timeout(PATIENCE, place.document(MIRROR_MANIFEST)).await {
        Ok(Ok(Some(_))) => report.ok(AREA, format!("{what} has a manifest")),
        Ok(Ok(None)) => report.warn(
            AREA,
            format!("{what} is empty"),
            "servers fill it by and by, inputs first; `cipherloom ciphertext publish` does it at once",
        ),
        Ok(Err(error)) => report.fail(AREA, format!("{what}: {error}"), "look at what the place allows to read"),
        Err(_) => report.fail(AREA, format!("{what} does not answer"), CHECK_PLACE),
    }
}

/// Returns the directory of a place if it is not there. It would be made if it were opened, and a doctor makes nothing.
pub(super) fn missing_directory(url: &ObjectsUrl) -> Option<String> {
    let url = url.to_string();
    let directory = url.strip_prefix("file://")?;
    (!Path::new(directory).is_dir()).then(|| directory.to_owned())
}

/// Asks a place for something that nobody put there.
async fn check_place(url: &ObjectsUrl, what: &str, report: &mut Report) -> Option<Arc<dyn PublicPlace>> {
    if !url.is_writable() {
        report.fail(AREA, format!("{what} can only be read"), "name the place that is published there");
        return None;
    }
    if let Some(directory) = missing_directory(url) {
        report.fail(
            AREA,
            format!("{what}: there is no directory {directory}"),
            "the first process that uses it makes it; if one has, mount it here too",
        );
        return None;
    }
    let place = match url.open() {
        Ok(place) => place,
        Err(error) => {
            report.fail(
                AREA,
                format!("{what} cannot be used: {error}"),
                "check the URL and the credentials in the environment",
            );
            return None;
        }
    };
    match tokio::time::timeout(PATIENCE, place.read(object_digest(b"cipherloom doctor"))).await {
        Ok(Ok(_)) => {
            report.ok(AREA, format!("{what} can be reached"));
            Some(place)
        }
        Ok(Err(error)) => {
            report.fail(AREA, format!("{what}: {error}"), CHECK_PLACE);
            None
        }
        Err(_) => {
            report.fail(AREA, format!("{what} does not answer"), CHECK_PLACE);
            None
        }
    }
}

/// Reads results of finished transactions: the newest ones, or all.
pub(super) async fn check(database: &dyn Database, options: &DoctorOptions, found: &[Found], report: &mut Report) {
    for found in found {
        let (inspection, store) = (database.inspection(&found.tenant), database.store(&found.tenant));
        let name = &found.tenant.name;
        let counted = match read(inspection.as_ref(), store.as_ref(), options.deep).await {
            Ok(counted) => counted,
            Err(error) => {
                report.fail(
                    AREA,
                    format!("tenant {name}: they cannot be read: {error}"),
                    "look at the database's log",
                );
                continue;
            }
        };
        if counted.no_object_store {
            report.fail(
                AREA,
                format!("tenant {name}: their bytes are in an object store, and these options name none"),
                "give --ciphertext-store, the same for all processes on the database",
            );
        } else if let Some(reason) = counted.reason {
            report.fail(
                AREA,
                format!(
                    "tenant {name}: {} of {} cannot be used: {reason}",
                    counted.wrong,
                    counted.wrong + counted.right
                ),
                "give the right --ciphertext-store; what is lost there is restored from its backup or a mirror",
            );
        } else if counted.right > 0 {
            let extent = if options.deep {
                "all results"
            } else {
                "results of the newest transactions"
            };
            report.ok(
                AREA,
                format!("tenant {name}: {extent} are there and have their digests ({})", counted.right),
            );
        } else {
            report.ok(AREA, format!("tenant {name}: there are none yet"));
        }
    }
}

async fn read(inspection: &dyn Inspection, store: &dyn Store, deep: bool) -> Result<Counted, StoreError> {
    let mut counted = Counted::default();
    let mut filter = TransactionFilter {
        state: Some(TransactionState::Done),
        limit: if deep { PAGE } else { SAMPLE },
        ..TransactionFilter::default()
    };
    loop {
        let page = inspection.list_transactions(&filter).await?;
        let mut handles: Vec<Handle> = Vec::new();
        for summary in &page {
            // By hash, as an operator would ask; a transaction that went meanwhile is none.
            if let Some(detail) = inspection.transaction(&TransactionKey::Hash(summary.hash)).await? {
                handles.extend(detail.outputs.iter().filter(|output| output.stored).map(|output| output.handle));
            }
        }
        for some in handles.chunks(AT_A_TIME) {
            count(store, some, &mut counted).await?;
        }
        filter.before = page.last().map(|last| last.position);
        if !deep || page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) || counted.no_object_store {
            return Ok(counted);
        }
    }
}

/// Reads some ciphertexts together, and one by one if that fails, so that one bad one does not hide the others.
async fn count(store: &dyn Store, handles: &[Handle], counted: &mut Counted) -> Result<(), StoreError> {
    match store.ciphertexts(handles).await {
        Ok(ciphertexts) => {
            for ciphertext in ciphertexts.into_iter().flatten() {
                if object_digest(&ciphertext.bytes) == ciphertext.digest {
                    counted.right += 1;
                } else {
                    counted.wrong += 1;
                    counted
                        .reason
                        .get_or_insert_with(|| format!("the bytes of {} do not have their digest", ciphertext.handle));
                }
            }
            Ok(())
        }
        Err(StoreError::NoObjectStore) => {
            counted.no_object_store = true;
            Ok(())
        }
        Err(error) if is_about_objects(&error) => match handles {
            [_] => {
                counted.wrong += 1;
                counted.reason.get_or_insert_with(|| error.to_string());
                Ok(())
            }
            several => {
                for one in several.chunks(1) {
                    Box::pin(count(store, one, counted)).await?;
                }
                Ok(())
            }
        },
        Err(error) => Err(error),
    }
}

const fn is_about_objects(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::MissingObject { .. } | StoreError::DamagedObject { .. } | StoreError::Object { .. } | StoreError::Corrupt { .. }
    )
}
