//! What changes under the users' feet: the edge reads its settings anew, hands over to another process, is closed and opened again. And who it
//! says that a request comes from.

use std::io::{Read, Write};

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{ADMINISTRATOR, PASSWORD, RECOVERY, run};
use atalaya_suites::client::{Client, Connection};
use atalaya_suites::inside::{all_up, unit};
use atalaya_suites::story::eventually;
use atalaya_suites::stream::{Stream, Tally};
use atalaya_vm::UnitState;
use serde_json::{Value, json};

use crate::Edge;

const ATALAYA: &str = "/usr/bin/atalaya";
/// The tests' host, as a machine on QEMU's user network sees it.
const CLIENT: &str = "10.0.2.2";
/// Large enough not to fit into buffers on the way.
const FILE: usize = 4 << 20;

/// Whatever a client claims to be, the server writes down where its connection comes from.
pub fn the_server_knows_where_a_request_comes_from(of: &mut Edge) -> anyhow::Result<()> {
    let body = json!({"login_id": ADMINISTRATOR, "password": PASSWORD}).to_string();
    let mut connection = of.client.connect()?;
    write!(
        connection,
        "POST /api/v4/users/login HTTP/1.1\r\nHost: {}\r\nX-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n\
         Forwarded: for=203.0.113.9\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        of.host(),
        body.len()
    )?;
    let answer = read_to_end(&mut connection)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let audits = of.client.get("/api/v4/users/me/audits")?.json(200)?;
    let newest = &audits[0];
    ensure!(
        newest["action"] == "/api/v4/users/login" && newest["ip_address"] == CLIENT,
        "the server says of the newest log-in: {newest}"
    );
    Ok(())
}

/// It reads its settings anew while somebody is in the middle of an upload, others post, and one listens.
pub fn a_reload_loses_no_request(of: &mut Edge) -> anyhow::Result<()> {
    let before = unit(&of.wait_all_up()?, "edge")?;
    let stream = of.stream("reload")?;
    let upload = Upload::begin(&of.client, &of.channel)?;
    for _ in 0..3 {
        run(&of.vm, &[ATALAYA, "unit", "reload", "edge"])?;
        stream.wait_flow(RECOVERY)?;
    }
    upload.finish(&of.client)?;
    check_none_lost(&stream.end()?)?;
    let after = unit(&of.wait_all_up()?, "edge")?;
    ensure!(
        (before.pid, before.run) == (after.pid, after.run),
        "a reload is no restart: {before:?}, {after:?}"
    );
    Ok(())
}

/// Another process takes over while somebody is in the middle of an upload and others post.
pub fn a_restart_loses_no_request(of: &mut Edge) -> anyhow::Result<()> {
    let before = unit(&of.wait_all_up()?, "edge")?;
    let stream = of.stream("restart")?;
    let upload = Upload::begin(&of.client, &of.channel)?;
    of.vm
        .agent()?
        .launch(&[ATALAYA, "unit", "restart", "edge"])?;
    of.vm
        .wait_status("the edge to go or to hand over", RECOVERY, |state| {
            let now = state.units.get("edge");
            now.is_some_and(|now| now.pid != before.pid || now.state == UnitState::Stopping)
        })?;
    upload.finish(&of.client)?;
    let after = of.vm.wait_status("the next edge", RECOVERY, |state| {
        let next = state.units.get("edge");
        next.is_some_and(|next| next.pid != before.pid && next.ready) && all_up(state)
    })?;
    stream.wait_flow(RECOVERY)?;
    check_none_lost(&stream.end()?)?;
    ensure!(unit(&after, "edge")?.ready, "the next edge is not ready");
    Ok(())
}

/// Users are told so and when to come back, by page and by the API; the appliance's own probe is let in by another door.
pub fn maintenance_closes_the_door_to_users_only(of: &mut Edge) -> anyhow::Result<()> {
    const WORDS: &str = "Back at noon";
    run(&of.vm, &[ATALAYA, "maintenance", "on", "--message", WORDS])?;
    let closed = eventually("the door to be closed", RECOVERY, || {
        let page = of.client.get("/")?;
        Ok((page.status == 503).then_some(page))
    })?;
    ensure!(
        closed.whole_text().contains(WORDS) && closed.header("retry-after").is_some(),
        "the page does not say {WORDS:?} or when to come back: {}",
        closed.text()
    );
    let call = of.client.get("/api/v4/users/me")?;
    ensure!(
        call.header("retry-after").is_some(),
        "the API does not say when to come back"
    );
    let error = call.json(503)?;
    ensure!(
        error["status_code"] == 503 && error["message"].is_string(),
        "the API answers {error}"
    );
    let said = run(&of.vm, &[ATALAYA, "maintenance", "status"])?;
    ensure!(said.contains(WORDS), "the command line says {said}");
    run(&of.vm, &[ATALAYA, "probe"]).context("the probe while the door is closed")?;
    run(&of.vm, &[ATALAYA, "maintenance", "off"])?;
    eventually("the door to be open", RECOVERY, || {
        Ok((of.client.get("/")?.status == 200).then_some(()))
    })
}

impl Edge {
    /// Posts that flow.
    fn stream(&self, label: &str) -> anyhow::Result<Stream> {
        let stream = Stream::begin(&self.client, &self.channel, label, ADMINISTRATOR, PASSWORD);
        stream.wait_flow(RECOVERY)?;
        Ok(stream)
    }

    fn wait_all_up(&self) -> anyhow::Result<atalaya_vm::Snapshot> {
        Ok(self
            .vm
            .wait_status("every unit to be up", RECOVERY, all_up)?)
    }

    fn host(&self) -> &str {
        self.client.base().trim_start_matches("https://")
    }
}

/// Every post and every log-in was answered, and well.
fn check_none_lost(tally: &Tally) -> anyhow::Result<()> {
    let good = |statuses: &std::collections::BTreeMap<u16, usize>| {
        statuses.keys().all(|status| matches!(status, 200 | 201))
    };
    ensure!(
        good(&tally.posts) && good(&tally.log_ins),
        "posts were answered with {:?}, log-ins with {:?} (0: no answer)",
        tally.posts,
        tally.log_ins
    );
    Ok(())
}

/// A file of which half has been sent.
struct Upload {
    connection: Connection,
    content: Vec<u8>,
}

impl Upload {
    fn begin(client: &Client, channel: &str) -> anyhow::Result<Upload> {
        let content: Vec<u8> = (0..FILE).map(|at| (at % 251) as u8).collect();
        let mut connection = client.connect()?;
        write!(
            connection,
            "POST /api/v4/files?channel_id={channel}&filename=half.bin HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {FILE}\r\nConnection: close\r\n\r\n",
            client.base().trim_start_matches("https://"),
            client.token().context("nobody is logged in")?
        )?;
        connection.write_all(&content[..FILE / 2])?;
        connection.flush()?;
        Ok(Upload {
            connection,
            content,
        })
    }

    /// Sends the other half; the server has it all.
    fn finish(mut self, client: &Client) -> anyhow::Result<()> {
        self.connection
            .write_all(&self.content[FILE / 2..])
            .context("the upload broke off")?;
        let answer = read_to_end(&mut self.connection)?;
        ensure!(
            answer.starts_with("HTTP/1.1 201"),
            "the upload was answered with {answer:?}"
        );
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        // Perhaps in chunks: the JSON begins at its first brace.
        let json = body.find('{').and_then(|begin| {
            let end = body.rfind('}')?;
            serde_json::from_str::<Value>(body.get(begin..=end)?).ok()
        });
        let json = json.with_context(|| format!("no JSON in {answer:?}"))?;
        let id = json["file_infos"][0]["id"].as_str().unwrap_or_default();
        ensure!(
            client.download(id)? == self.content,
            "the file came back as another"
        );
        Ok(())
    }
}

/// What comes until the other side closes, with or without a farewell.
fn read_to_end(connection: &mut Connection) -> anyhow::Result<String> {
    let mut answer = Vec::new();
    match connection.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error).context("no answer"),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
