//! A supervisor under attack: database processes die, limits are reached, the clock jumps, the supervisor itself is killed
//! and stopped, and in the end the machine. One machine: the steps that restart it come last.

mod database;
mod ends;
mod limits;
mod takeover;

use std::process::ExitCode;

use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, RECOVERY, wait_served,
};
use atalaya_suites::client::Client;
use atalaya_suites::inside::all_up;
use atalaya_suites::place::Place;
use atalaya_suites::story::{self, Step};
use atalaya_suites::stream::Stream;
use atalaya_vm::{DiskServer, Snapshot, Vm};

/// What the steps share. The disk is served, so that it can stop answering; it outlives the machine.
pub struct Supervise {
    vm: Vm,
    client: Client,
    channel: String,
    disk: DiskServer,
    _appliance: Appliance,
}

fn main() -> ExitCode {
    let step = |name, run: fn(&mut Supervise) -> anyhow::Result<()>| Step { name, run };
    story::run(
        "supervise",
        begin,
        &[
            step(
                "a_killed_backend_means_recovering_and_no_restart",
                database::a_killed_backend_means_recovering_and_no_restart,
            ),
            step(
                "database_left_by_its_postmaster_is_emptied_before_the_next_start",
                database::database_left_by_its_postmaster_is_emptied_before_the_next_start,
            ),
            step(
                "a_unit_over_its_memory_dies_and_says_so",
                limits::a_unit_over_its_memory_dies_and_says_so,
            ),
            step(
                "a_fork_bomb_stays_in_its_unit",
                limits::a_fork_bomb_stays_in_its_unit,
            ),
            step(
                "a_full_disk_stops_the_database_in_order",
                limits::a_full_disk_stops_the_database_in_order,
            ),
            step(
                "a_clock_ten_years_off_changes_nothing",
                limits::a_clock_ten_years_off_changes_nothing,
            ),
            step(
                "a_killed_edge_refuses_no_connection",
                takeover::a_killed_edge_refuses_no_connection,
            ),
            step(
                "a_stopped_supervisor_is_replaced_and_misses_no_exit",
                takeover::a_stopped_supervisor_is_replaced_and_misses_no_exit,
            ),
            step(
                "five_deaths_mean_safe_mode_and_nobody_notices",
                takeover::five_deaths_mean_safe_mode_and_nobody_notices,
            ),
            step(
                "a_panic_restarts_the_machine_and_is_explained",
                ends::a_panic_restarts_the_machine_and_is_explained,
            ),
            step(
                "a_hung_init_is_bitten_and_that_is_explained",
                ends::a_hung_init_is_bitten_and_that_is_explained,
            ),
            step(
                "nothing_that_hangs_keeps_the_machine_from_restarting",
                ends::nothing_that_hangs_keeps_the_machine_from_restarting,
            ),
        ],
    )
}

fn begin() -> anyhow::Result<Supervise> {
    let place = Place::from_environment();
    let appliance = Appliance::new(&place, &place.test_image()?, 12, true)?.seeded()?;
    let disk = DiskServer::start(&appliance.disk())?;
    let appliance = appliance.change(|machine| machine.boot_disk(disk.disk()).watchdog(true));
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    let mut client = appliance.client(&state)?;
    client.log_in(ADMINISTRATOR, PASSWORD)?;
    let channel = client.make_channel("supervise")?;
    Ok(Supervise {
        vm,
        client,
        channel,
        disk,
        _appliance: appliance,
    })
}

impl Supervise {
    fn wait_all_up(&self) -> anyhow::Result<Snapshot> {
        Ok(self
            .vm
            .wait_status("every unit to be up", RECOVERY, all_up)?)
    }

    /// Posts that flow.
    fn stream(&self, label: &str) -> anyhow::Result<Stream> {
        let stream = Stream::begin(&self.client, &self.channel, label, ADMINISTRATOR, PASSWORD);
        stream.wait_flow(RECOVERY)?;
        Ok(stream)
    }
}
