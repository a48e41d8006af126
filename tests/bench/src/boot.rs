//! Booting against the baseline: the same packages, kernel, initrd, verified root, PostgreSQL settings and Mattermost under
//! systemd with nginx in front, in the same QEMU. Ready is the same for both: the page is served through TLS.
//!
//! Each machine is booted once, for what only a first boot does, and shut down in order. Every measured boot is then a
//! second boot from that same disk. The two take turns, so that noise of this machine hits both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{Appliance, BOOT, FIRST_BOOT, POWER_OFF};
use atalaya_suites::disk::copy_grown;
use atalaya_suites::place::{Image, Place};
use atalaya_vm::Vm;
use ureq::tls::{TlsConfig, TlsProvider};

use crate::stats::Sample;
use crate::table::Table;

const GIB: u64 = 1 << 30;
const DISK_GIB: u64 = 16;
/// What stage 1, which both roots share, says when it executes the root's PID 1.
const PID_1: &str = "is verified, switching";

/// One boot, in seconds since power-on.
#[derive(Debug, Clone, Copy)]
struct Boot {
    pid_1: f64,
    page: f64,
}

/// One of the two machines, with its disk as it was after the first boot.
struct Subject {
    appliance: Appliance,
    pristine: PathBuf,
    boots: Vec<Boot>,
}

pub fn measure(place: &Place, rounds: usize) -> anyhow::Result<Vec<Table>> {
    let baseline = Image::at(&place.root().join("build/image-baseline"))
        .context("there is no baseline image: `atalaya-image build --baseline` makes it")?;
    let bar = crate::progress("boot", 2 * (rounds + 1));
    let mut ours = first(place, &place.production_image()?, End::PowerButton)?;
    bar.inc(1);
    let mut theirs = first(place, &baseline, End::CtrlAltDel)?;
    bar.inc(1);
    for _ in 0..rounds {
        for subject in [&mut ours, &mut theirs] {
            second(subject)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(vec![table(&ours.boots, &theirs.boots)])
}

/// How a machine is asked to end: without logind nothing under systemd hears the power button.
enum End {
    PowerButton,
    CtrlAltDel,
}

fn first(place: &Place, image: &Image, end: End) -> anyhow::Result<Subject> {
    let appliance = Appliance::new(place, image, DISK_GIB, false)?.seeded()?;
    let vm = appliance.start()?;
    watch(&vm, FIRST_BOOT)?;
    match end {
        End::PowerButton => {
            vm.press_power_button()?;
            vm.wait_exit("the machine to switch itself off", POWER_OFF)?;
        }
        End::CtrlAltDel => {
            let mark = vm.qmp().mark();
            vm.press_ctrl_alt_del()?;
            vm.wait_reset("the machine to restart", mark, POWER_OFF)?;
            vm.quit()?;
        }
    }
    let pristine = appliance.directory().join("pristine.raw");
    copy_grown(&appliance.disk(), &pristine, DISK_GIB * GIB)?;
    Ok(Subject {
        appliance,
        pristine,
        boots: Vec::new(),
    })
}

fn second(subject: &mut Subject) -> anyhow::Result<()> {
    replace(&subject.pristine, &subject.appliance.disk())?;
    let vm = subject.appliance.start()?;
    subject.boots.push(watch(&vm, BOOT)?);
    // The disk is thrown away: no need to shut down.
    vm.quit()?;
    Ok(())
}

fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(to)?;
    copy_grown(from, to, DISK_GIB * GIB)
}

/// Watches a boot until the page is served.
fn watch(vm: &Vm, limit: Duration) -> anyhow::Result<Boot> {
    let agent = client();
    let address = format!("https://localhost:{}/", vm.https_port());
    let mut pid_1 = None;
    loop {
        let now = vm.started().elapsed();
        ensure!(
            now < limit && vm.exit().is_none(),
            "{}",
            vm.deadline("the page", now)
        );
        if let Some(pid_1) = pid_1 {
            if agent
                .get(&address)
                .call()
                .is_ok_and(|it| it.status() == 200)
            {
                return Ok(Boot {
                    pid_1,
                    page: vm.started().elapsed().as_secs_f64(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        } else {
            if vm.console().text().contains(PID_1) {
                pid_1 = Some(now.as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Each machine has a certificate of its own making; whose it is does not matter here.
fn client() -> ureq::Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .disable_verification(true)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .ip_family(ureq::config::IpFamily::Ipv4Only)
        .timeout_global(Some(Duration::from_secs(5)))
        .max_idle_connections(0)
        .proxy(None)
        .build()
        .new_agent()
}

fn table(ours: &[Boot], theirs: &[Boot]) -> Table {
    let mut table = Table::new([
        "second boot to the served page, s",
        "ours",
        "systemd + nginx",
        "ratio",
        "range, ours",
        "range, systemd",
    ]);
    type Part = fn(&Boot) -> f64;
    let rows: [(&str, Part); 3] = [
        ("from power-on", |boot| boot.page),
        ("from PID 1 (goal 0.8)", |boot| boot.page - boot.pid_1),
        ("power-on to PID 1", |boot| boot.pid_1),
    ];
    for (title, part) in rows {
        let [ours, theirs] = [ours, theirs].map(|boots| boots.iter().map(part).collect::<Sample>());
        let range =
            |sample: &Sample| format!("{:.1} to {:.1}", sample.percentile(0.0), sample.longest());
        table.row([
            title,
            &format!("{:.1}", ours.median()),
            &format!("{:.1}", theirs.median()),
            &format!("{:.2}", ours.median() / theirs.median()),
            &range(&ours),
            &range(&theirs),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_medians() {
        let boots = |pages: [f64; 3]| pages.map(|page| Boot { pid_1: 5.0, page });
        let table = table(&boots([13.0, 11.0, 99.0]), &boots([15.0, 14.0, 21.0])).to_string();
        assert!(
            table.contains("| from power-on | 13.0 | 15.0 | 0.87 | 11.0 to 99.0 | 14.0 to 21.0 |")
        );
        assert!(table.contains("| from PID 1 (goal 0.8) | 8.0 | 10.0 | 0.80 |"));
    }
}
