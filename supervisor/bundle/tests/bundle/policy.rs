//! Each row of what a machine takes, by name. All of these bundles are signed as they should be.

use atalaya_bundle::Refusal;
use atalaya_bundle::manifest::Manifest;
use atalaya_bundle::policy::assess;
use atalaya_core::update::task::Rules;

use crate::workshop::{Workpiece, rules};

fn manifest() -> Manifest {
    serde_json::from_slice(Workpiece::good().entry("manifest.json")).unwrap()
}

fn verdict(change: impl FnOnce(&mut Manifest, &mut Rules)) -> Result<(), &'static str> {
    let (mut manifest, mut rules) = (manifest(), rules());
    change(&mut manifest, &mut rules);
    assess(&manifest, &rules).map_err(|refusal: Refusal| refusal.code())
}

#[test]
fn what_fits_is_taken() {
    assert_eq!(verdict(|_, _| {}), Ok(()));
    assert_eq!(
        verdict(|m, _| m.version = "0.1.0-standin".into()),
        Ok(()),
        "another build of the same version"
    );
    assert_eq!(verdict(|m, r| (m.epoch, r.epoch_floor) = (5, 5)), Ok(()));
    assert_eq!(
        verdict(|m, _| m.minimum_from = "0.1.0".into()),
        Ok(()),
        "the stand-in's mark is no earlier version"
    );
    assert_eq!(verdict(|_, r| r.schema = None), Ok(()));
}

#[test]
fn another_product_kind_or_architecture() {
    assert_eq!(verdict(|m, _| m.product = "other".into()), Err("product"));
    assert_eq!(verdict(|m, _| m.kind = "official".into()), Err("kind"));
    assert_eq!(verdict(|_, r| r.kind = "official".into()), Err("kind"));
    assert_eq!(
        verdict(|m, _| m.architecture = "aarch64".into()),
        Err("architecture")
    );
}

#[test]
fn an_epoch_below_the_floor() {
    assert_eq!(verdict(|_, r| r.epoch_floor = 2), Err("epoch"));
    assert_eq!(
        verdict(|_, r| r.running.epoch = 2),
        Err("epoch"),
        "the running image's own counts too"
    );
    assert_eq!(
        verdict(|m, r| (
            m.epoch,
            r.epoch_floor,
            r.allow_downgrade,
            r.allow_quarantined
        ) = (0, 1, true, true)),
        Err("epoch")
    );
}

#[test]
fn older_keys_than_were_accepted() {
    assert_eq!(verdict(|_, r| r.key_set = 3), Err("old_keys"));
}

#[test]
fn an_older_version() {
    let older = |m: &mut Manifest, r: &mut Rules| {
        r.running.version = "0.10.0-standin".into();
        m.version = "0.9.0-standin".into();
    };
    assert_eq!(verdict(older), Err("downgrade"));
    assert_eq!(
        verdict(|m, r| {
            older(m, r);
            r.allow_downgrade = true;
        }),
        Ok(())
    );
    assert_eq!(
        verdict(|m, _| m.version = "0.1.0-rc.1-standin".into()),
        Err("downgrade")
    );
    assert_eq!(
        verdict(|_, r| r.running.version = "unknown".into()),
        Err("version")
    );
}

#[test]
fn another_major_version_of_postgresql() {
    assert_eq!(
        verdict(|m, _| m.postgresql = "18.1".into()),
        Err("postgresql")
    );
    assert_eq!(
        verdict(|m, _| m.postgresql = "16.9".into()),
        Err("postgresql")
    );
    assert_eq!(verdict(|m, _| m.postgresql = "17.9".into()), Ok(()));
}

#[test]
fn another_major_version_of_postgresql_that_carries_the_data_over() {
    let offers = |postgresql: &str, from: &[u32]| {
        verdict(|m, r| {
            m.postgresql = postgresql.into();
            m.postgresql_from = from.to_vec();
            // The way back is the rollback, on the data from before.
            r.allow_downgrade = true;
        })
    };
    assert_eq!(offers("18.1", &[17]), Ok(()));
    assert_eq!(offers("18.1", &[15, 17]), Ok(()));
    assert_eq!(offers("18.1", &[16]), Err("postgresql"));
    assert_eq!(offers("16.9", &[17]), Err("postgresql"), "never back");
    assert_eq!(
        verdict(|m, r| (m.postgresql, r.postgresql) = ("18.1".into(), String::new())),
        Ok(()),
        "not known"
    );
}

#[test]
fn an_edge_that_is_closed() {
    assert_eq!(
        verdict(|m, _| m.minimum_from = "0.1.1-standin".into()),
        Err("minimum_from")
    );
    assert_eq!(
        verdict(|m, _| m.forbidden_from = vec!["0.1.0".into()]),
        Err("forbidden_from")
    );
    assert_eq!(
        verdict(|m, _| m.forbidden_from = vec!["0.1.1".into()]),
        Ok(())
    );
}

#[test]
fn what_runs_or_was_taken_back() {
    assert_eq!(
        verdict(|m, r| r.running.root_hash = m.root_hash.clone()),
        Err("running")
    );
    assert_eq!(
        verdict(|m, r| r.quarantine = vec![m.root_hash.clone()]),
        Err("quarantine")
    );
    assert_eq!(
        verdict(|m, r| (r.quarantine, r.allow_quarantined) = (vec![m.root_hash.clone()], true)),
        Ok(())
    );
}

#[test]
fn another_schema_for_a_database_that_cannot_be_taken_back() {
    let external = |schema, backup: Option<&str>| {
        verdict(|_, r| {
            r.external_database = true;
            r.schema = schema;
            r.external_backup = backup.map(str::to_owned);
        })
    };
    assert_eq!(external(Some(158), None), Ok(()));
    assert_eq!(external(Some(157), None), Err("external_database"));
    assert_eq!(external(None, None), Err("external_database"));
    assert_eq!(
        external(Some(157), Some("night of Monday, on the database server")),
        Ok(())
    );
}
