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
mod callbacks;
mod cooling;
mod database;
mod fixture;
mod following;
mod gateway_jobs;
mod handles;
mod inspection;
mod leases;
mod names;
mod places;
mod postgres;
mod publications;
mod pushed;
mod sqlite_file;
mod squashed;
mod tenants;

use std::sync::Arc;

use cipherloom_store::{CiphertextDirectory, Database, SqliteStore, Store, Tenants};

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

async fn database_in_sqlite() -> (Arc<dyn Database>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.sqlite")).await.unwrap();
    (Arc::new(store), directory)
}

async fn database_in_postgresql() -> (Arc<dyn Database>, ()) {
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
            following::a_block_that_comes_back_has_its_results_again,
            following::another_block_gets_no_results_of_a_withdrawn_one,
            following::what_was_not_finished_in_a_block_is_computed_when_it_comes_back,
            following::results_of_withdrawn_blocks_are_forgotten_when_the_chain_is_far_ahead,
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
            pushed::pushed_work_becomes_a_block_of_the_tenants_own_numbering,
            pushed::pushed_work_waits_for_what_it_needs_and_finishing_says_what_can_run,
            pushed::transactions_of_one_work_may_need_earlier_ones,
            pushed::work_that_needs_an_unknown_handle_records_nothing,
            pushed::known_is_what_is_stored_recorded_failed_or_admitted,
            pushed::work_whose_outputs_are_known_records_nothing,
            pushed::pushers_of_the_same_outputs_record_each_once,
            pushed::work_beyond_the_backlog_is_refused_until_there_is_room,
            pushed::a_followed_chain_takes_no_pushed_work,
            pushed::a_chain_with_pushed_work_is_not_followed_and_nothing_is_withdrawn,
            pushed::transactions_asked_for_first_are_leased_before_older_ones,
            names::names_stand_for_one_handle_each,
            names::a_name_that_is_taken_is_refused_and_nothing_is_added,
            names::names_come_with_the_work_or_not_at_all,
            names::ciphertexts_are_read_in_the_order_asked_for,
            publications::packed_ciphertexts_are_listed_until_they_are_marked,
            publications::a_ciphertext_with_other_bytes_is_not_marked,
            publications::what_was_published_is_listed_again_on_demand,
            publications::whoever_claims_publishing_has_it,
            squashed::a_list_is_kept_with_its_ciphertext_and_replaced_by_a_later_one,
            squashed::a_list_of_bytes_that_are_not_stored_is_not_kept,
            squashed::a_withdrawn_block_takes_its_lists_with_it,
            squashed::a_block_that_comes_back_has_its_lists_made_again,
            squashed::public_values_without_a_list_are_found_among_the_newest_blocks,
            squashed::old_lists_are_forgotten_oldest_first_and_may_be_stored_again,
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

macro_rules! database_suite {
    ($($store:ident),*) => {
        $(stamp! { $store:
            database::tenants_take_turns_by_live_leases,
            database::two_tenants_with_work_get_equal_shares,
            database::limits_are_kept_with_the_tenant,
            database::a_tenant_never_has_more_live_leases_than_its_limit,
            database::tenants_see_nothing_of_each_others_pushed_work,
            database::a_removed_tenant_takes_pushed_work_and_names_with_it,
            database::changes_name_the_tenant,
            callbacks::one_process_at_a_time_serves_a_site,
            callbacks::requests_go_the_way_the_chain_says,
            callbacks::an_attempt_is_written_down_before_it_is_sent_and_settled_with_its_nonce,
            callbacks::what_another_account_sent_is_taken_over_after_a_while,
            callbacks::a_reorganisation_undoes_what_its_blocks_said,
            callbacks::what_failed_is_tried_again_when_an_operator_says_so,
            gateway_jobs::equal_requests_share_a_job_unless_it_failed,
            gateway_jobs::a_job_is_found_as_it_stands,
            gateway_jobs::gateways_that_submit_the_same_at_once_record_one_job,
            gateway_jobs::a_job_is_taken_up_when_its_lease_has_run_out,
            gateway_jobs::a_released_job_is_free_and_the_attempt_not_counted,
            gateway_jobs::the_first_answer_stays_and_an_error_needs_the_lease,
            gateway_jobs::many_gateways_never_take_up_the_same_job,
            gateway_jobs::ended_jobs_expire_by_age_number_and_size,
            gateway_jobs::deployments_see_nothing_of_each_others_jobs,
            following::a_chain_is_followed_as_was_said_last,
            following::one_process_at_a_time_follows_a_chain,
            inspection::transactions_are_listed_newest_first_in_pages,
            inspection::transactions_are_filtered_by_state_and_handle,
            inspection::a_transaction_is_shown_with_lease_waits_and_outputs,
            inspection::a_retried_transaction_is_computed_and_so_is_what_failed_because_of_it,
            inspection::what_needs_a_retried_result_waits_for_it_again,
            inspection::the_backlog_counts_what_is_to_be_done,
        })*
    };
}

database_suite!(database_in_sqlite, database_in_postgresql);
