//! Where a machine's certificate comes from: nobody told it anything, or two lines name the site and agree to an authority's terms.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, RECOVERY, run, wait_served,
};
use atalaya_suites::authority::Authority;
use atalaya_suites::browser::Browser;
use atalaya_suites::client::Client;
use atalaya_suites::place::Place;
use atalaya_suites::story::{self, Step, eventually};

/// A certificate has been asked for, proven and served, on an emulated machine with both processors busy.
const ISSUED: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let step = |name, run| Step { name, run };
    story::run(
        "certificates",
        || Ok(Place::from_environment()),
        &[
            step(
                "a_machine_that_was_told_nothing_has_an_authority_of_its_own",
                told_nothing,
            ),
            step("two_lines_are_enough_for_a_public_certificate", two_lines),
        ],
    )
}

/// No seed, no network beyond its own: it names itself by its address, makes an authority, and gives it away over port
/// 80 to whoever will trust it.
fn told_nothing(place: &mut Place) -> anyhow::Result<()> {
    let appliance = Appliance::new(place, &place.test_image()?, 12, true)?;
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    let ca = state.ca.as_ref().context("it has not reported its CA")?;
    let site = state
        .site
        .clone()
        .context("it has not reported its address")?;
    let client = Client::of_site(&site, vm.https_port(), vm.http_port(), &ca.pem)?;
    let page = client.get("/")?;
    ensure!(page.status == 200, "the page has status {}", page.status);
    // A browser that remembers HSTS would not let anybody in again when the authority is made anew.
    ensure!(
        page.header("strict-transport-security").is_none(),
        "HSTS goes with a certificate of the internal authority"
    );
    let given = client.get_plain("/ca.crt")?;
    ensure!(
        given.status == 200 && given.whole_text() == ca.pem,
        "port 80 gives away another authority: {}",
        given.text()
    );
    let instructions = client.get_plain("/ca")?;
    ensure!(
        instructions.status == 200 && instructions.whole_text().contains("Firefox"),
        "port 80 does not say how to trust it: {}",
        instructions.text()
    );
    let mut browser = Browser::start(&ca.pem, &[("*:443", vm.https_port())])?;
    browser.open(&format!("{site}/"))?;
    browser.until("document.getElementById('login') !== null", "the page")
}

/// The name and the agreement, and, as this authority is no public one, where it is and whom to trust for it.
fn two_lines(place: &mut Place) -> anyhow::Result<()> {
    const NAME: &str = "chat.example.com";
    let appliance = Appliance::new(place, &place.test_image()?, 12, true)?;
    let authority = Authority::start(
        &place.tools()?,
        appliance.https_port(),
        appliance.http_port(),
    )?;
    let seed = format!(
        "site.address = \"https://{NAME}\"\ntls.acme.terms_agreed = true\n{}\
         [administrator]\nusername = \"{ADMINISTRATOR}\"\nemail = \"chief@example.com\"\npassword = \"{PASSWORD}\"\n",
        authority.seed()
    );
    let appliance = appliance
        .seeded_with(&seed)?
        .change(|machine| machine.isolated(false));
    let vm = appliance.start()?;
    let client = |pem: &str| {
        Client::of_site(
            &format!("https://{NAME}"),
            vm.https_port(),
            vm.http_port(),
            pem,
        )
    };
    let state = wait_served(&vm, FIRST_BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    let mut user = client(&authority.root_pem()?)?;
    let issued = eventually("a certificate of the authority", ISSUED, || {
        Ok(user.server_certificate().ok())
    })
    .with_context(|| {
        let edge = run(&vm, &["/usr/bin/atalaya", "logs", "-u", "edge", "-n", "20"]);
        format!(
            "the authority says:\n{}the edge says:\n{}",
            authority.log(),
            edge.unwrap_or_default()
        )
    })?;
    user.log_in(ADMINISTRATOR, PASSWORD)?;
    let page = user.get("/")?;
    ensure!(
        page.header("strict-transport-security") == Some("max-age=86400"),
        "HSTS is {:?}",
        page.header("strict-transport-security")
    );
    // It is kept: another start orders none.
    run(&vm, &["/usr/bin/atalaya", "unit", "restart", "edge"])?;
    let kept = eventually("the next edge", RECOVERY, || {
        Ok(user.server_certificate().ok())
    })?;
    ensure!(kept == issued, "a restart ordered another certificate");
    let ca = state.ca.context("it has not reported its CA")?;
    ensure!(
        client(&ca.pem)?.server_certificate().is_err(),
        "the internal authority's certificate is served beside the public one"
    );
    Ok(())
}
