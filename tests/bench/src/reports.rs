//! What the bench's own units report: datagrams on a port of 127.0.0.1. It only listens; what a report means is decided
//! by who asked for it.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::time::{ClockId, clock_gettime};

/// The port.
pub struct Reports {
    socket: UdpSocket,
    address: String,
}

/// One report: who, what, and times by CLOCK_MONOTONIC in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub name: String,
    pub event: String,
    pub numbers: Vec<i64>,
}

impl Report {
    fn parse(text: &str) -> Option<Report> {
        let mut words = text.split(' ');
        Some(Report {
            name: words.next()?.to_owned(),
            event: words.next()?.to_owned(),
            numbers: words.map(str::parse).collect::<Result<_, _>>().ok()?,
        })
    }
}

impl Reports {
    pub fn open() -> anyhow::Result<Reports> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("failed to open a port")?;
        // A graph of 1,000 units reports at once; a datagram that finds no room is lost.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20))
            .context("failed to make room for reports")?;
        let address = socket.local_addr()?.to_string();
        Ok(Reports { socket, address })
    }

    /// For `BENCH_REPORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next report.
    pub fn next(&self, limit: Duration) -> anyhow::Result<Report> {
        self.socket
            .set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 512];
        let length = self
            .socket
            .recv(&mut buffer)
            .with_context(|| format!("no unit reported within {} s", limit.as_secs()))?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        Report::parse(&text).with_context(|| format!("no report: {text:?}"))
    }

    /// The next report of this unit about this event. Another's means that it did what nobody asked for.
    pub fn expect(&self, name: &str, event: &str, limit: Duration) -> anyhow::Result<Report> {
        let report = self
            .next(limit)
            .with_context(|| format!("waited for {name}: {event}"))?;
        if report.name != name || report.event != event {
            bail!("{report:?} came while {name}: {event} was waited for");
        }
        Ok(report)
    }

    /// The first report of each of `count` units about this event.
    pub fn collect(
        &self,
        event: &str,
        count: usize,
        limit: Duration,
    ) -> anyhow::Result<Vec<Report>> {
        let deadline = Instant::now() + limit;
        let mut found: Vec<Report> = Vec::new();
        while found.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = self
                .next(left)
                .with_context(|| format!("{} of {count} units have reported", found.len()))?;
            if report.event == event && !found.iter().any(|known| known.name == report.name) {
                found.push(report);
            }
        }
        Ok(found)
    }
}

/// Now, by CLOCK_MONOTONIC, in nanoseconds.
pub fn monotonic_ns() -> anyhow::Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).context("failed to read the clock")?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// From one time to another, in milliseconds.
#[allow(clippy::cast_precision_loss)] // nanoseconds of a benchmark
pub fn milliseconds(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let report = Report::parse("unit-7 wrote 1 2 3").unwrap();
        assert_eq!(
            (report.name.as_str(), report.event.as_str()),
            ("unit-7", "wrote")
        );
        assert_eq!(report.numbers, [1, 2, 3]);
        assert_eq!(Report::parse("unit-7"), None);
        assert_eq!(Report::parse("unit-7 began soon"), None);
    }

    #[test]
    fn a_unit_that_reports_twice_counts_once() {
        let reports = Reports::open().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for text in ["a began 1", "a began 2", "b began 3"] {
            sender.send_to(text.as_bytes(), reports.address()).unwrap();
        }
        let found = reports
            .collect("began", 2, Duration::from_secs(10))
            .unwrap();
        assert_eq!(found[0].numbers, [1]);
        assert_eq!(found[1].name, "b");
    }
}
