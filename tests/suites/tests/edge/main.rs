//! The edge as its users see it, in one machine: a real browser, both versions of HTTP, who a request comes from, a closed door, and what a
//! reload or a restart does to those who are in the middle of something.

mod browser;
mod changes;

use std::process::ExitCode;

use anyhow::ensure;
use atalaya_contract::Target;
use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, wait_served,
};
use atalaya_suites::client::Client;
use atalaya_suites::place::Place;
use atalaya_suites::story::{self, Step};
use atalaya_vm::Vm;

/// What the steps share.
pub struct Edge {
    vm: Vm,
    client: Client,
    channel: String,
    _appliance: Appliance,
}

fn main() -> ExitCode {
    let step = |name, run: fn(&mut Edge) -> anyhow::Result<()>| Step { name, run };
    story::run(
        "edge",
        begin,
        &[
            step(
                "a_browser_trusts_the_authority_and_is_told_by_websocket",
                browser::a_browser_trusts_the_authority_and_is_told_by_websocket,
            ),
            step(
                "a_browser_that_was_not_told_of_the_authority_opens_nothing",
                browser::a_browser_that_was_not_told_of_the_authority_opens_nothing,
            ),
            step("contract_over_http2", contract_over_http2),
            step(
                "the_server_knows_where_a_request_comes_from",
                changes::the_server_knows_where_a_request_comes_from,
            ),
            step(
                "a_reload_loses_no_request",
                changes::a_reload_loses_no_request,
            ),
            step(
                "maintenance_closes_the_door_to_users_only",
                changes::maintenance_closes_the_door_to_users_only,
            ),
            step(
                "a_restart_loses_no_request",
                changes::a_restart_loses_no_request,
            ),
        ],
    )
}

fn begin() -> anyhow::Result<Edge> {
    let place = Place::from_environment();
    let appliance = Appliance::new(&place, &place.test_image()?, 12, true)?.seeded()?;
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    let mut client = appliance.client(&state)?;
    client.log_in(ADMINISTRATOR, PASSWORD)?;
    let channel = client.make_channel("edge")?;
    Ok(Edge {
        vm,
        client,
        channel,
        _appliance: appliance,
    })
}

/// All of what the appliance relies on goes over one HTTP/2 connection, WebSockets too. The story `life` does the same
/// over HTTP/1.1.
fn contract_over_http2(of: &mut Edge) -> anyhow::Result<()> {
    let mut target = Target::new(of.client.base(), ADMINISTRATOR, PASSWORD);
    target.ca_pem = Some(of.client.ca_pem().to_owned());
    target.http2 = true;
    let report = atalaya_contract::run(&target)?;
    ensure!(
        report.all_passed(),
        "{} checks failed: {:#?}",
        report.failed(),
        report.failures()
    );
    Ok(())
}
