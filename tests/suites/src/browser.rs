//! A real browser: Debian's Chromium without a window, with a home and a set of trusted authorities of its own, asked over its DevTools
//! protocol. It trusts a certificate as a user's browser does or not at all: no switch that turns a check off is given.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::story::eventually;

/// For its start and for each answer, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running browser with one page. Dropping it ends it.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    last_id: u64,
    session: String,
    complaints: Vec<String>,
    responses: Vec<Value>,
    socket_status: Option<u64>,
    _home: TempDir,
}

impl Browser {
    /// Starts it with `ca_pem` among its authorities, as a user adds one. What is asked of `HOST:443` and of any other
    /// `HOST:PORT` of `places` goes to that port of 127.0.0.1.
    pub fn start(ca_pem: &str, places: &[(&str, u16)]) -> anyhow::Result<Browser> {
        let home = tempfile::Builder::new()
            .prefix("atalaya-browser-")
            .tempdir()?;
        trust(home.path(), ca_pem)?;
        let profile = home.path().join("profile");
        let rules: Vec<String> = places
            .iter()
            .map(|(from, port)| format!("MAP {from} 127.0.0.1:{port}"))
            .collect();
        let child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args([
                "--no-first-run",
                "--disable-dev-shm-usage",
                "--no-proxy-server",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--host-resolver-rules={}", rules.join(",")))
            .arg("about:blank")
            .env("HOME", home.path())
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to start chromium: `image/setup test` installs it")?;
        let mut starting = Starting(Some(child));
        let place = eventually("the browser to open its port", PATIENCE, || {
            // Port and path, the path without a line end.
            let text = fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
            let mut lines = text.lines();
            let (port, path) = (lines.next(), lines.next());
            Ok(port
                .zip(path)
                .map(|(port, path)| (port.to_owned(), path.to_owned())))
        })?;
        let tcp = TcpStream::connect(format!("127.0.0.1:{}", place.0))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let address = format!("ws://127.0.0.1:{}{}", place.0, place.1);
        let (socket, _) = tungstenite::client(address.as_str(), tcp)
            .map_err(|error| anyhow::anyhow!("the browser's port: {error}"))?;
        let mut browser = Browser {
            child: starting.0.take().context("the browser is gone")?,
            socket,
            last_id: 0,
            session: String::new(),
            complaints: Vec::new(),
            responses: Vec::new(),
            socket_status: None,
            _home: home,
        };
        let made = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": made["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = text(&attached, "sessionId")?;
        for domain in [
            "Page.enable",
            "Runtime.enable",
            "Log.enable",
            "Network.enable",
        ] {
            browser.call(domain, json!({}))?;
        }
        Ok(browser)
    }

    /// Opens a page and waits until it is loaded; refused when the browser shows an error of its own instead, as it does
    /// for a certificate that it does not trust.
    pub fn open(&mut self, address: &str) -> anyhow::Result<()> {
        let gone = self.call("Page.navigate", json!({"url": address}))?;
        if let Some(error) = gone["errorText"].as_str() {
            bail!("the browser does not open {address}: {error}");
        }
        self.until(
            "document.readyState === 'complete'",
            "the page to be loaded",
        )
        .map(drop)
    }

    /// What an expression of the page comes to; a promise is waited for.
    pub fn evaluate(&mut self, expression: &str) -> anyhow::Result<Value> {
        let how = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", how)?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression of the page is true.
    pub fn until(&mut self, expression: &str, what: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        // The page itself looks again and again, so that one question is enough.
        let waits = format!(
            "new Promise(done => {{ const look = () => ({expression}) ? done(true) : setTimeout(look, 50); look(); }})"
        );
        loop {
            // A page that is just being replaced takes its promise with it.
            match self.evaluate(&waits) {
                Ok(Value::Bool(true)) => return Ok(()),
                result => ensure!(
                    begun.elapsed() < PATIENCE,
                    "waited for {what}: {result:?}, {:?}",
                    self.complaints
                ),
            }
        }
    }

    /// What the browser's console has complained of since it was last asked: blocked parts, wrong headers, failed requests.
    pub fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    /// What the browser says of the connection by which it got this address: `protocol`, `issuer` and so on (its
    /// `securityDetails`), and `http`, the version.
    #[must_use]
    pub fn connection(&self, address: &str) -> Option<Value> {
        let mut responses = self.responses.iter().rev();
        let response = responses.find(|response| response["url"] == address)?;
        let mut details = response["securityDetails"].clone();
        details["http"] = response["protocol"].clone();
        Some(details)
    }

    /// With which status the last WebSocket was opened: 101 over HTTP/1.1, 200 over HTTP/2 (RFC 8441).
    #[must_use]
    pub fn socket_status(&self) -> Option<u64> {
        self.socket_status
    }

    /// Writes what it shows to a PNG file.
    pub fn screenshot(&mut self, path: &Path) -> anyhow::Result<()> {
        use base64::Engine;
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}))?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text(&shot, "data")?)?;
        fs::File::create(path)?.write_all(&bytes)?;
        Ok(())
    }

    fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut request = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(request.to_string()))?;
        loop {
            let mut said = self
                .read()
                .with_context(|| format!("no answer to {method}"))?;
            if said["id"] == id {
                ensure!(said["error"].is_null(), "{method}: {}", said["error"]);
                return Ok(said["result"].take());
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        loop {
            if let Message::Text(text) = self.socket.read()? {
                let said: Value = serde_json::from_str(&text)?;
                let params = &said["params"];
                match said["method"].as_str() {
                    Some("Log.entryAdded") => {
                        let entry = &params["entry"];
                        self.complaints
                            .push(format!("{}: {}", entry["source"], entry["text"]));
                    }
                    Some("Network.responseReceived") => {
                        self.responses.push(params["response"].clone());
                    }
                    Some("Network.webSocketHandshakeResponseReceived") => {
                        self.socket_status = params["response"]["status"].as_u64();
                    }
                    _ => {}
                }
                return Ok(said);
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A browser that does not answer yet, ended with whoever waits for it.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

/// It and the processes of its pages.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
    }
    child.wait().ok();
}

/// Adds the authority as certutil does for a user.
fn trust(home: &Path, ca_pem: &str) -> anyhow::Result<()> {
    let database = home.join(".pki/nssdb");
    fs::create_dir_all(&database)?;
    let file = home.join("ca.crt");
    fs::File::create(&file)?.write_all(ca_pem.as_bytes())?;
    let database = format!("sql:{}", database.display());
    let certutil = |words: &[&str]| {
        let output = Command::new("certutil")
            .args(["-d", &database])
            .args(words)
            .output()
            .context("failed to run certutil: `image/setup test` installs it")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "certutil {words:?}: {said}");
        Ok(())
    };
    certutil(&["-N", "--empty-password"])?;
    let file = file.to_string_lossy();
    certutil(&["-A", "-t", "C,,", "-n", "atalaya", "-i", &file])
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let found = value[name].as_str();
    Ok(found
        .with_context(|| format!("the browser's answer has no {name}: {value}"))?
        .to_owned())
}
