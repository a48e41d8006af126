//! The one program that every supervisor of the bench runs: it says when it began and then plays its role.
//!
//! Its first act is to read the clock. It gets its orders from the environment, because runit and s6 give a program no
//! arguments, and reports by a datagram to a port of 127.0.0.1, because that needs nothing of the file system, which a
//! sandbox hides. It decides nothing else.
//!
//! `BENCH_REPORT` where to report, `BENCH_NAME` who reports, `BENCH_ROLE` what to do:
//!
//! | role | |
//! |---|---|
//! | `stay` | wait until killed |
//! | `once` | end with success |
//! | `launch` | become the program that the arguments name |
//! | `lines SIZE COUNT PACE` | write so many lines of so many bytes to the output, a line each PACE microseconds (0: as fast as it goes), report the longest write, wait until killed |
//!
//! A report is `NAME EVENT NANOSECONDS...`, by CLOCK_MONOTONIC.

use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

fn main() -> ExitCode {
    let began = now();
    match play(began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-unit: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Nanoseconds; 0 where the clock cannot be read.
fn now() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

fn play(began: i64) -> io::Result<()> {
    let order = |name: &str| std::env::var(name).map_err(io::Error::other);
    let (report, name, role) = (
        order("BENCH_REPORT")?,
        order("BENCH_NAME")?,
        order("BENCH_ROLE")?,
    );
    let say = |text: String| -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.send_to(format!("{name} {text}").as_bytes(), &report)?;
        Ok(())
    };
    say(format!("began {began}"))?;
    match role.split(' ').collect::<Vec<_>>().as_slice() {
        ["stay"] => stay(),
        ["once"] => Ok(()),
        ["launch"] => {
            let mut words = std::env::args_os().skip(1);
            let program = words
                .next()
                .ok_or_else(|| io::Error::other("nothing to launch"))?;
            Err(Command::new(program).args(words).exec())
        }
        ["lines", size, count, pace] => {
            let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
            let (size, count, pace) = (number(size)?, number(count)?, number(pace)?);
            let longest = write_lines(size, count, Duration::from_micros(pace))?;
            say(format!("wrote {began} {} {}", now(), longest.as_nanos()))?;
            stay()
        }
        _ => Err(io::Error::other("no such role")),
    }
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

/// Each line is one write(2), as a program that logs does it. Gives the longest of them.
fn write_lines(size: u64, count: u64, pace: Duration) -> io::Result<Duration> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut output = std::fs::File::from(nix::unistd::dup(io::stdout())?);
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    let mut line = Vec::with_capacity(size);
    for number in 0..count {
        line.clear();
        write!(line, "{number:012} ")?;
        line.resize(size.saturating_sub(1), b'x');
        line.push(b'\n');
        let before = Instant::now();
        output.write_all(&line)?;
        longest = longest.max(before.elapsed());
        if !pace.is_zero() {
            let due = begin + pace.saturating_mul(u32::try_from(number + 1).unwrap_or(u32::MAX));
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
        }
    }
    Ok(longest)
}
