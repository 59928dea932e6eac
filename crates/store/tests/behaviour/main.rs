//! The behaviour every store must have, checked on every store there is.
//!
//! [`suite`] names the behaviours once; a new implementation adds one `stamp!` line.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

mod agreement;
mod blocks;
mod cooling;
mod fixture;
mod handles;
mod leases;
mod places;
mod postgres;
mod publications;
mod sqlite_file;
mod tenants;

use std::sync::Arc;

use cipherloom_store::{CiphertextDirectory, SqliteStore, Store, Tenants};

/// Opens an empty SQLite store in memory.
async fn sqlite_in_memory() -> (Arc<dyn Store>, ()) {
    (Arc::new(SqliteStore::in_memory().await.unwrap()), ())
}

/// Opens an empty SQLite store in a file, whose directory lives as long as the second value.
async fn sqlite_in_a_file() -> (Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (
        Arc::new(SqliteStore::open(&directory.path().join("store.sqlite")).await.unwrap()),
        directory,
    )
}

/// Opens an empty PostgreSQL store in a database of its own.
async fn postgresql() -> (Arc<dyn Store>, ()) {
    (Arc::new(postgres::store(&postgres::open().await, "first").await), ())
}

async fn tenants_in_sqlite() -> (Arc<dyn Tenants>, ()) {
    (Arc::new(SqliteStore::in_memory().await.unwrap()), ())
}

async fn tenants_in_postgresql() -> (Arc<dyn Tenants>, ()) {
    (Arc::new(postgres::open().await), ())
}

/// The same with the bytes of ciphertexts in a directory.
async fn postgresql_with_objects() -> (Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let objects = CiphertextDirectory::open(directory.path()).unwrap();
    let database = postgres::open().await.with_objects(Arc::new(objects));
    (Arc::new(postgres::store(&database, "first").await), directory)
}

macro_rules! stamp {
    ($store:ident: $($behaviour:ident::$name:ident),* $(,)?) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let (store, _directory) = super::$store().await;
                    super::$behaviour::$name(store).await;
                }
            )*
        }
    };
}

macro_rules! suite {
    ($($store:ident),*) => {
        $(stamp! { $store:
            blocks::following_resumes_at_the_newest_block,
            blocks::chains_are_kept_apart,
            blocks::a_block_that_does_not_continue_is_refused_and_changes_nothing,
            blocks::a_failing_batch_records_none_of_its_blocks,
            blocks::a_transaction_without_outputs_is_recorded_as_done,
            blocks::removed_blocks_take_grants_and_transactions_with_them,
            blocks::a_grant_repeated_in_a_removed_block_stays,
            leases::a_transaction_is_leased_once,
            leases::many_workers_never_share_a_transaction,
            leases::an_expired_lease_is_taken_over_and_its_owner_is_refused,
            leases::a_renewed_lease_does_not_expire,
            leases::a_released_lease_is_free_and_the_attempt_not_counted,
            leases::transactions_wait_for_the_ciphertexts_they_need,
            leases::a_transaction_whose_operand_nobody_will_publish_can_run,
            leases::a_lease_on_a_withdrawn_transaction_is_lost,
            leases::transactions_that_publish_one_handle_run_in_order,
            leases::leases_come_oldest_first_and_as_recorded,
            leases::a_lease_tells_when_its_work_was_recorded,
            handles::publishing_is_idempotent_on_the_handle,
            handles::publishing_under_a_lost_lease_writes_nothing,
            handles::failed_outputs_say_why_and_do_not_hide_results,
            handles::inputs_are_found_by_handle_and_by_digest,
            handles::admitting_twice_changes_nothing,
            handles::a_handle_goes_from_unknown_through_pending_to_stored,
            cooling::what_a_removed_block_published_goes_with_it,
            cooling::raw_ciphertexts_are_listed_beyond_window_and_margin,
            cooling::a_pending_transaction_keeps_what_it_may_read_raw,
            cooling::the_packed_form_replaces_the_raw_one_once,
            cooling::packing_what_has_another_raw_form_changes_nothing,
            cooling::an_expanded_input_can_be_stored_packed_and_is_not_listed,
            handles::numbers_beyond_the_database_are_refused,
            publications::packed_ciphertexts_are_listed_until_they_are_marked,
            publications::a_ciphertext_with_other_bytes_is_not_marked,
            publications::what_was_published_is_listed_again_on_demand,
            publications::whoever_claims_publishing_has_it,
        })*
    };
}

suite!(sqlite_in_memory, sqlite_in_a_file, postgresql, postgresql_with_objects);

macro_rules! tenant_suite {
    ($($store:ident),*) => {
        $(stamp! { $store:
            tenants::a_tenant_is_found_by_its_key_alone,
            tenants::a_name_is_given_once,
            tenants::a_replaced_key_ends_at_once,
            tenants::a_disabled_tenant_is_not_found_until_it_is_enabled,
            tenants::a_removed_tenant_is_unknown_to_everything,
            tenants::key_sets_are_attached_by_id_and_read_once,
            tenants::a_key_set_of_the_same_id_replaces_the_former_one,
            tenants::what_is_unknown_or_wrong_is_not_attached_or_stored,
        })*
    };
}

tenant_suite!(tenants_in_sqlite, tenants_in_postgresql);
