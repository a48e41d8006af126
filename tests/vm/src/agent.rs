//! The test's side of the agent in a test image. One request at a time; a request that a reset of the machine
//! swallowed is answered by nothing, so `wait_ready` asks again and again under new ids.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use atalaya_agent::{Answer, Call, Entry, ProcessInfo, Request, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::VmError;

/// No call of a test takes longer on an emulated machine.
const CALL_LIMIT: Duration = Duration::from_secs(120);
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// A connection to the agent.
#[derive(Debug)]
pub struct Agent {
    port: Mutex<Port>,
}

#[derive(Debug)]
struct Port {
    stream: UnixStream,
    responses: mpsc::Receiver<Response>,
    last_id: u64,
}

/// How a program ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; none: a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

impl Agent {
    pub(crate) fn open(stream: UnixStream) -> Result<Agent, VmError> {
        let reader = stream
            .try_clone()
            .map_err(VmError::io("duplicate", "the agent's port"))?;
        let (sender, responses) = mpsc::channel();
        thread::Builder::new()
            .name("agent".to_owned())
            .spawn(move || read_responses(reader, &sender))
            .map_err(VmError::io("start a thread to read", "the agent's port"))?;
        Ok(Agent {
            port: Mutex::new(Port {
                stream,
                responses,
                last_id: 0,
            }),
        })
    }

    /// Waits until the agent answers.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), VmError> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            match self.call_within(Call::Ping, PING_INTERVAL) {
                Ok(_) => return Ok(()),
                Err(VmError::Agent { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(refused(
            "answer a ping",
            format!("no answer within {} s", timeout.as_secs()),
        ))
    }

    /// Runs a program and waits for its end, whatever its exit status.
    pub fn exec(&self, argv: &[&str]) -> Result<Output, VmError> {
        self.exec_call(argv, b"", CALL_LIMIT)
    }

    /// The same, with input.
    pub fn exec_with_input(&self, argv: &[&str], input: &[u8]) -> Result<Output, VmError> {
        self.exec_call(argv, input, CALL_LIMIT)
    }

    /// The same, for a machine that may be going down and answer no more.
    pub fn exec_within(&self, argv: &[&str], limit: Duration) -> Result<Output, VmError> {
        self.exec_call(argv, b"", limit)
    }

    fn exec_call(&self, argv: &[&str], input: &[u8], limit: Duration) -> Result<Output, VmError> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let call = Call::Exec {
            argv,
            stdin: BASE64.encode(input),
        };
        match self.call_within(call, limit)? {
            Answer::Output {
                code,
                stdout,
                stderr,
                ..
            } => Ok(Output {
                code,
                stdout: text(&stdout)?,
                stderr: text(&stderr)?,
            }),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Has a program started whose end nobody waits for: it takes the machine down, and the answer with it.
    pub fn launch(&self, argv: &[&str]) -> Result<(), VmError> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let call = Call::Exec {
            argv,
            stdin: String::new(),
        };
        self.lock().send(call).map(drop)
    }

    /// A whole file.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, VmError> {
        match self.call(Call::Read {
            path: path.to_owned(),
        })? {
            Answer::Content { content } => bytes(&content),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Replaces or makes a file.
    pub fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<(), VmError> {
        self.call(Call::Write {
            path: path.to_owned(),
            content: BASE64.encode(content),
            mode,
        })
        .map(drop)
    }

    /// What a directory holds; `recursive`: its whole tree, on this file system only.
    pub fn list(&self, path: &str, recursive: bool) -> Result<Vec<Entry>, VmError> {
        match self.call(Call::List {
            path: path.to_owned(),
            recursive,
        })? {
            Answer::Entries { entries } => Ok(entries),
            other => Err(out_of_turn(&other)),
        }
    }

    /// About one path.
    pub fn stat(&self, path: &str) -> Result<Entry, VmError> {
        let answer = self.call(Call::Stat {
            path: path.to_owned(),
        })?;
        match answer {
            Answer::Entries { mut entries } if entries.len() == 1 => Ok(entries.remove(0)),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Every process.
    pub fn processes(&self) -> Result<Vec<ProcessInfo>, VmError> {
        match self.call(Call::Processes)? {
            Answer::Processes { processes } => Ok(processes),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Proportional set size of a process, in KiB.
    pub fn pss_kib(&self, pid: i32) -> Result<u64, VmError> {
        match self.call(Call::Memory { pid })? {
            Answer::Memory { pss_kib } => Ok(pss_kib),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Sends a signal.
    pub fn kill(&self, pid: i32, signal: i32) -> Result<(), VmError> {
        self.call(Call::Kill { pid, signal }).map(drop)
    }

    /// Size and free bytes of the file system that holds `path`.
    pub fn file_system(&self, path: &str) -> Result<(u64, u64), VmError> {
        match self.call(Call::FileSystem {
            path: path.to_owned(),
        })? {
            Answer::FileSystem { size, free } => Ok((size, free)),
            other => Err(out_of_turn(&other)),
        }
    }

    fn call(&self, call: Call) -> Result<Answer, VmError> {
        self.call_within(call, CALL_LIMIT)
    }

    fn lock(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call_within(&self, call: Call, limit: Duration) -> Result<Answer, VmError> {
        let mut port = self.lock();
        let operation = describe(&call);
        let id = port.send(call)?;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match port.responses.recv_timeout(left) {
                Ok(response) if response.id == id => {
                    return response
                        .result
                        .map_err(|reason| refused(&operation, reason));
                }
                // An answer to an earlier question that nobody waits for any more.
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(refused(
                        &operation,
                        format!("no answer within {} s", limit.as_secs()),
                    ));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(VmError::Protocol {
                        peer: "the agent",
                        answer: "QEMU closed its port".to_owned(),
                    });
                }
            }
        }
    }
}

impl Port {
    /// Sends a request and gives its id.
    fn send(&mut self, call: Call) -> Result<u64, VmError> {
        let operation = describe(&call);
        self.last_id += 1;
        let id = self.last_id;
        let request = serde_json::to_string(&Request { id, call })
            .map_err(|error| refused(&operation, error.to_string()))?;
        // The first line break ends what a reset may have left unfinished on the way in.
        let line = format!("\n{request}\n");
        self.stream
            .write_all(line.as_bytes())
            .map_err(VmError::io("write to", "the agent's port"))?;
        Ok(id)
    }
}

fn read_responses(stream: UnixStream, sender: &mpsc::Sender<Response>) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        // A response that a reset cut short is not one.
        let Ok(response) = serde_json::from_slice(&line) else {
            continue;
        };
        if sender.send(response).is_err() {
            return;
        }
    }
}

fn describe(call: &Call) -> String {
    match call {
        Call::Ping => "answer a ping".to_owned(),
        Call::Exec { argv, .. } => format!("run {}", argv.join(" ")),
        Call::Read { path } => format!("read {path}"),
        Call::Write { path, .. } => format!("write {path}"),
        Call::List { path, .. } => format!("list {path}"),
        Call::Stat { path } | Call::FileSystem { path } => format!("look at {path}"),
        Call::Processes => "list the processes".to_owned(),
        Call::Memory { pid } => format!("measure process {pid}"),
        Call::Kill { pid, signal } => format!("send signal {signal} to {pid}"),
    }
}

fn refused(operation: &str, reason: String) -> VmError {
    VmError::Agent {
        operation: operation.to_owned(),
        reason,
    }
}

fn out_of_turn(answer: &Answer) -> VmError {
    let answer: String = format!("{answer:?}").chars().take(200).collect();
    VmError::Protocol {
        peer: "the agent",
        answer,
    }
}

fn bytes(base64: &str) -> Result<Vec<u8>, VmError> {
    BASE64.decode(base64).map_err(|error| VmError::Protocol {
        peer: "the agent",
        answer: error.to_string(),
    })
}

fn text(base64: &str) -> Result<String, VmError> {
    Ok(String::from_utf8_lossy(&bytes(base64)?).into_owned())
}

#[cfg(test)]
mod tests {
    use atalaya_agent::calls;

    use super::*;

    /// An agent in this process, behind a port that first swallows `lost` requests, as a reset does.
    fn agent(lost: usize) -> Agent {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writer.write_all(b"rest of a line\n").unwrap();
            let requests = BufReader::new(theirs).lines().map_while(Result::ok);
            let requests = requests.filter_map(|line| serde_json::from_str::<Request>(&line).ok());
            for request in requests.skip(lost) {
                let response = serde_json::to_string(&calls::respond(request)).unwrap();
                writer
                    .write_all(format!("{response}\n").as_bytes())
                    .unwrap();
            }
        });
        Agent::open(ours).unwrap()
    }

    #[test]
    fn a_swallowed_ping_is_repeated() {
        agent(1).wait_ready(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn output_and_exit_status_come_back() {
        let output = agent(0).exec_with_input(&["cat"], b"hello").unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), "hello"));
    }

    #[test]
    fn an_error_says_what_was_asked() {
        let error = agent(0).read_file("/no/such").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the agent could not read /no/such: failed to read"),
            "{error}"
        );
    }
}
