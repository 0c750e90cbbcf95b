//! What every kind of store must do, on the filesystem it is for. Each property is one function; each kind of store has a test of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends where something is wrong; measurements are printed"
)]

#[path = "store_conformance/caches.rs"]
mod caches;
#[path = "store_conformance/figures.rs"]
mod figures;
#[path = "support/filesystem.rs"]
mod filesystem;
#[path = "store_conformance/full_disk.rs"]
mod full_disk;
#[path = "store_conformance/killed.rs"]
mod killed;
#[path = "store_conformance/lab.rs"]
mod lab;
#[path = "store_conformance/layers.rs"]
mod layers;
#[path = "store_conformance/stores.rs"]
mod stores;
#[path = "store_conformance/subvolumes.rs"]
mod subvolumes;
#[path = "support/tree.rs"]
mod tree;

/// The tests of one kind of store.
macro_rules! conformance {
    ($kind:ident, $case:expr) => {
        mod $kind {
            use crate::lab::Case;

            const CASE: Case = $case;

            crate::conformance!(@ layers:
                a_new_tree_is_empty_and_like_any_directory
                everything_about_files_survives_layers
                sealed_layers_are_not_changed_by_those_above
                what_was_removed_or_replaced_stays_so
                attributes_alone_can_be_changed
                many_layers_are_seen_through
                what_was_thrown_away_does_not_come_back
                a_tree_of_any_depth_and_name_is_removed
                the_space_is_that_of_the_filesystem
                the_filesystem_is_looked_at_before_it_is_used
            );
            crate::conformance!(@ full_disk:
                a_full_disk_is_told_apart_and_is_no_end
                a_full_disk_does_not_keep_a_store_from_being_opened_and_pruned
            );
            crate::conformance!(@ caches:
                a_cache_is_created_empty_and_belongs_to_its_user
                data_persists_and_only_the_top_changes_hands
                of_two_users_the_first_to_release_wins
                dropped_clones_change_nothing
                a_cache_that_is_removed_while_used_stays_removed
                no_name_leads_out_of_the_caches
                caches_survive_their_store_and_debris_does_not
                broken_versions_are_dropped
                the_least_recently_used_go_when_the_quota_is_full
                a_cache_larger_than_the_quota_is_reset_and_used_ones_stay
                many_releases_leave_few_trees
                concurrent_users_never_see_half_a_version
                what_a_crash_of_the_machine_may_have_cut_is_dropped
                a_crash_of_the_machine_takes_no_more_than_what_is_new
            );
            crate::conformance!(@ stores:
                layers_are_found_as_they_were_kept
                layers_are_deleted_and_pruned_until_nothing_is_left
                caches_outlive_their_store_and_keep_it_open
                a_store_on_the_wrong_filesystem_is_refused
            );
            crate::conformance!(@ killed:
                a_store_is_whole_after_its_process_was_killed
            );
        }
    };
    (@ $module:ident: $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                CASE.run(crate::$module::$property);
            }
        )*
    };
}
pub(crate) use conformance;

conformance!(overlayfs, Case::OVERLAYFS);
conformance!(btrfs, Case::BTRFS);
conformance!(rsync_copy, Case::RSYNC_COPY);
conformance!(rsync_hardlink, Case::RSYNC_HARDLINK);
conformance!(rsync_hardlink_unsafe, Case::RSYNC_HARDLINK_UNSAFE);
conformance!(xfs, Case::XFS);
