//! The TLS edge beside nginx and HAProxy: processor time of a new connection and of a request, latency at half load, memory of an idle
//! WebSocket, large bodies. All three run through the whole measurement, in front of one backend, and take turns.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use atalaya_load::backend::Backend;
use atalaya_load::client::{Protocol, Target};
use atalaya_load::proxy::{Kind, Proxy, versions};
use atalaya_suites::place::Place;
use tokio::task::JoinSet;

use crate::stats::Sample;
use crate::table::Table;

/// Clients that connect anew at once, HTTP/1.1 connections, HTTP/2 connections and requests at once on each.
const CONNECTING: usize = 16;
const HTTP1: usize = 32;
const HTTP2: (usize, usize) = (4, 8);
/// WebSockets: what the first of them cost beside their own memory is in both figures.
const FEW: usize = 500;
const MANY: usize = 2500;
/// After which what was needed only to connect has been given back.
const SETTLE: Duration = Duration::from_secs(3);
const BODY: u64 = 100 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds that each proxy is loaded in one turn
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Turns of each proxy; the median counts
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// The edge's program, to compare versions
    #[arg(long)]
    edge_program: Option<PathBuf>,
    /// Only these parts: connections http1 http2 latency sockets bodies
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
}

pub fn measure(place: &Place, options: &Options) -> anyhow::Result<Vec<Table>> {
    atalaya_load::raise_descriptor_limit()?;
    let program = match &options.edge_program {
        Some(program) => program.clone(),
        None => place.root().join("build/cargo/release/atalaya-edge"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let backend = Backend::start(([127, 0, 0, 1], 0).into()).await?;
        let edge = Proxy::edge(&program, backend.address()).await?;
        let nginx = Proxy::peer(Kind::Nginx, &edge, backend.address()).await?;
        let haproxy = Proxy::peer(Kind::Haproxy, &edge, backend.address()).await?;
        eprintln!("{}", versions());
        all(&[nginx, haproxy, edge], options).await
    })
}

async fn all(proxies: &[Proxy], options: &Options) -> anyhow::Result<Vec<Table>> {
    let wanted =
        |part: &str| options.parts.is_empty() || options.parts.iter().any(|name| name == part);
    let mut cost = Table::new([
        "the TLS edge",
        "processor, us",
        "against nginx's",
        "per second",
        "range of us",
    ]);
    let mut fastest = Vec::new();
    for (part, what, load) in [
        (
            "connections",
            "a new TLS 1.3 connection with one request",
            Load::Connections,
        ),
        ("http1", "a request over HTTP/1.1, kept alive", Load::Http1),
        ("http2", "a request over HTTP/2", Load::Http2),
    ] {
        if !wanted(part) {
            continue;
        }
        let turns = take_turns(proxies, options, load).await?;
        let nginx = turns[0].cost.median();
        for (proxy, turn) in proxies.iter().zip(&turns) {
            let us = turn.cost.median();
            cost.row([
                &format!("{what}: {}", proxy.kind().name()),
                &format!("{us:.1}"),
                &format!("{:.2}", us / nginx),
                &format!("{:.0}", turn.rate.median()),
                &format!(
                    "{:.1} to {:.1}",
                    turn.cost.percentile(0.0),
                    turn.cost.longest()
                ),
            ]);
        }
        if load == Load::Http1 {
            fastest = turns.iter().map(|turn| turn.rate.median()).collect();
        }
    }
    let mut tables = vec![cost];
    if wanted("latency") && !fastest.is_empty() {
        tables.push(latency(proxies, options, &fastest).await?);
    }
    if wanted("sockets") {
        tables.push(sockets(proxies).await?);
    }
    if wanted("bodies") {
        tables.push(bodies(proxies).await?);
    }
    Ok(tables)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Connections,
    Http1,
    Http2,
}

/// What one proxy's turns came to.
struct Turns {
    /// Microseconds of processor time for each.
    cost: Sample,
    /// In a second.
    rate: Sample,
}

async fn take_turns(
    proxies: &[Proxy],
    options: &Options,
    load: Load,
) -> anyhow::Result<Vec<Turns>> {
    let mut seen: Vec<Vec<(f64, f64)>> = vec![Vec::new(); proxies.len()];
    let bar = crate::progress("edge", options.turns * proxies.len());
    for _ in 0..options.turns.max(1) {
        for (proxy, seen) in proxies.iter().zip(&mut seen) {
            seen.push(press(proxy, load, Duration::from_secs(options.seconds)).await?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let turns = seen.iter().map(|seen| Turns {
        cost: seen.iter().map(|(cost, _)| *cost).collect(),
        rate: seen.iter().map(|(_, rate)| *rate).collect(),
    });
    Ok(turns.collect())
}

/// Loads one proxy as much as it takes: microseconds of its processor time for each, and how many in a second.
#[allow(clippy::cast_precision_loss)] // figures for people
async fn press(proxy: &Proxy, load: Load, time: Duration) -> anyhow::Result<(f64, f64)> {
    let (count, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut clients = JoinSet::new();
    let target = proxy.target();
    let mut spawn = |client: Client| {
        clients.spawn(client.run(target.clone(), Arc::clone(&count), Arc::clone(&stop)));
    };
    match load {
        Load::Connections => (0..CONNECTING).for_each(|_| spawn(Client::Connecting)),
        Load::Http1 => {
            for _ in 0..HTTP1 {
                spawn(Client::Http1(Box::new(target.http1().await?)));
            }
        }
        Load::Http2 => {
            for _ in 0..HTTP2.0 {
                let connection = target.http2().await?;
                (0..HTTP2.1).for_each(|_| spawn(Client::Http2(connection.clone())));
            }
        }
    }
    // The first requests open connections to the backend.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let usage = proxy.usage()?;
    let (cpu, done, begun) = (usage.cpu()?, count.load(Ordering::SeqCst), Instant::now());
    tokio::time::sleep(time).await;
    let (cpu_then, done_then) = (usage.cpu()?, count.load(Ordering::SeqCst));
    let elapsed = begun.elapsed();
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended?.with_context(|| format!("{} under load", proxy.kind().name()))?;
    }
    let done = (done_then - done) as f64;
    Ok((
        (cpu_then - cpu).as_secs_f64() * 1e6 / done,
        done / elapsed.as_secs_f64(),
    ))
}

enum Client {
    Connecting,
    Http1(Box<atalaya_load::client::Http1>),
    Http2(atalaya_load::client::Http2),
}

impl Client {
    async fn run(
        mut self,
        target: Target,
        count: Arc<AtomicU64>,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            match &mut self {
                Client::Connecting => drop(target.http1().await?.get().await?),
                Client::Http1(connection) => drop(connection.get().await?),
                Client::Http2(connection) => connection.get().await?,
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// All at the same rate: half of what the slowest takes.
async fn latency(proxies: &[Proxy], options: &Options, fastest: &[f64]) -> anyhow::Result<Table> {
    let half = fastest.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
    let rate = format!("{half:.0} requests a second over HTTP/1.1, ms");
    let mut table = Table::new([&rate, "p50", "p99", "p99.9", "p99 against nginx's"]);
    let mut seen: Vec<Vec<f64>> = vec![Vec::new(); proxies.len()];
    for _ in 0..options.turns.max(1) {
        for (proxy, seen) in proxies.iter().zip(&mut seen) {
            seen.extend(paced(proxy, half, Duration::from_secs(options.seconds)).await?);
        }
    }
    let samples: Vec<Sample> = seen.into_iter().map(Sample::from_iter).collect();
    for (proxy, sample) in proxies.iter().zip(&samples) {
        table.row([
            proxy.kind().name(),
            &format!("{:.2}", sample.percentile(50.0)),
            &format!("{:.2}", sample.percentile(99.0)),
            &format!("{:.2}", sample.percentile(99.9)),
            &format!(
                "{:.2}",
                sample.percentile(99.0) / samples[0].percentile(99.0)
            ),
        ]);
    }
    Ok(table)
}

/// So many requests a second, each connection at its own times; milliseconds of each.
#[allow(clippy::cast_precision_loss)]
async fn paced(proxy: &Proxy, rate: f64, time: Duration) -> anyhow::Result<Vec<f64>> {
    let period = Duration::from_secs_f64(HTTP1 as f64 / rate);
    let mut clients = JoinSet::new();
    let begun = Instant::now() + Duration::from_millis(200);
    for number in 0..HTTP1 {
        let mut connection = proxy.target().http1().await?;
        clients.spawn(async move {
            let mut seen = Vec::new();
            let mut due = begun + period.mul_f64(number as f64 / HTTP1 as f64);
            while due < begun + time {
                // One that must wait for the answer before it counts from its own time on; a timer that comes late is the client's fault.
                let late = Instant::now() >= due;
                tokio::time::sleep_until(due.into()).await;
                let from = if late { due } else { Instant::now() };
                connection.get().await?;
                seen.push(from.elapsed().as_secs_f64() * 1e3);
                due += period;
            }
            anyhow::Ok(seen)
        });
    }
    let mut seen = Vec::new();
    while let Some(ended) = clients.join_next().await {
        seen.extend(ended??);
    }
    Ok(seen)
}

#[allow(clippy::cast_precision_loss)]
async fn sockets(proxies: &[Proxy]) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "idle TLS WebSockets",
        "KiB of PSS each",
        "against HAProxy's",
    ]);
    let mut seen = Vec::new();
    for proxy in proxies {
        let mut open = Vec::new();
        let mut figures = Vec::new();
        for size in [FEW, MANY] {
            while open.len() < size {
                open.push(proxy.target().http1().await?.websocket().await?);
            }
            tokio::time::sleep(SETTLE).await;
            figures.push(proxy.usage()?.pss_kib()? as f64);
        }
        seen.push((figures[1] - figures[0]) / (MANY - FEW) as f64);
    }
    let haproxy = proxies
        .iter()
        .zip(&seen)
        .find(|(proxy, _)| proxy.kind() == Kind::Haproxy);
    let haproxy = haproxy.map_or(f64::NAN, |(_, kib)| *kib);
    for (proxy, kib) in proxies.iter().zip(&seen) {
        table.row([
            proxy.kind().name(),
            &format!("{kib:.1}"),
            &format!("{:.2}", kib / haproxy),
        ]);
    }
    Ok(table)
}

#[allow(clippy::cast_precision_loss)]
async fn bodies(proxies: &[Proxy]) -> anyhow::Result<Table> {
    let mut table = Table::new([
        "100 MiB in one body",
        "MiB/s",
        "against nginx's",
        "processor, ms",
        "memory beside what it had, MiB",
    ]);
    for (protocol, upload, what) in [
        (Protocol::Http1, false, "down over HTTP/1.1"),
        (Protocol::Http2, false, "down over HTTP/2"),
        (Protocol::Http1, true, "up over HTTP/1.1"),
        (Protocol::Http2, true, "up over HTTP/2"),
    ] {
        let mut nginx = f64::NAN;
        for proxy in proxies {
            let (mut speed, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..3 {
                let usage = proxy.usage()?;
                usage.reset_peak()?;
                let (had, cpu_before, begun) = (usage.peak_kib()?, usage.cpu()?, Instant::now());
                match (protocol, upload) {
                    (Protocol::Http1, false) => proxy.target().http1().await?.download(BODY).await,
                    (Protocol::Http2, false) => proxy.target().http2().await?.download(BODY).await,
                    (Protocol::Http1, true) => proxy.target().http1().await?.upload(BODY).await,
                    (Protocol::Http2, true) => proxy.target().http2().await?.upload(BODY).await,
                }
                .with_context(|| format!("{what} through {}", proxy.kind().name()))?;
                speed.push(100.0 / begun.elapsed().as_secs_f64());
                cpu.push((usage.cpu()? - cpu_before).as_secs_f64() * 1e3);
                memory.push(usage.peak_kib()?.saturating_sub(had) as f64 / 1024.0);
            }
            let (speed, cpu) = (Sample::from_iter(speed), Sample::from_iter(cpu));
            if proxy.kind() == Kind::Nginx {
                nginx = speed.median();
            }
            table.row([
                &format!("{what}: {}", proxy.kind().name()),
                &format!("{:.0}", speed.median()),
                &format!("{:.2}", speed.median() / nginx),
                &format!("{:.0}", cpu.median()),
                &format!("{:.1}", Sample::from_iter(memory).longest()),
            ]);
        }
    }
    Ok(table)
}
