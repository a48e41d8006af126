//! Debian's Chromium with a set of authorities of its own.

use anyhow::ensure;
use atalaya_suites::appliance::{ADMINISTRATOR, PASSWORD};
use atalaya_suites::browser::Browser;

use crate::Edge;

/// As a person does it: opens the page, logs in, and sees a post that somebody else makes come in by itself. On the way
/// the browser complains of nothing: no header that it does not know, no part of the page that it was forbidden.
pub fn a_browser_trusts_the_authority_and_is_told_by_websocket(
    of: &mut Edge,
) -> anyhow::Result<()> {
    let mut browser = Browser::start(of.client.ca_pem(), &[])?;
    let address = format!("{}/", of.client.base());
    browser.open(&address)?;
    let connection = browser.connection(&address).unwrap_or_default();
    ensure!(
        connection["http"] == "h2" && connection["protocol"] == "TLS 1.3",
        "the browser is connected by {connection}"
    );
    browser.until("document.getElementById('login') !== null", "the page")?;
    browser.evaluate(&format!(
        "document.getElementById('name').value = '{ADMINISTRATOR}'; \
         document.getElementById('password').value = '{PASSWORD}'; \
         document.getElementById('login').requestSubmit()"
    ))?;
    browser.until(
        "document.getElementById('live').textContent === 'Live'",
        "the WebSocket to say hello",
    )?;
    // The page's own connection carries it: a second one would be a second handshake.
    ensure!(
        browser.socket_status() == Some(200),
        "the WebSocket was opened with {:?}",
        browser.socket_status()
    );
    let channel = browser.evaluate("document.getElementById('channel').value")?;
    let message = "seen by a browser";
    of.client
        .make_post(channel.as_str().unwrap_or_default(), message, &[])?;
    browser.until(
        &format!("document.getElementById('posts').textContent.includes('{message}')"),
        "the post to come in",
    )?;
    let complaints = browser.take_complaints();
    ensure!(
        complaints.is_empty(),
        "the browser complains: {complaints:#?}"
    );
    Ok(())
}

/// The step above would pass with any browser that checks nothing.
pub fn a_browser_that_was_not_told_of_the_authority_opens_nothing(
    of: &mut Edge,
) -> anyhow::Result<()> {
    let stranger = rcgen::generate_simple_self_signed(["stranger.example".to_owned()])?;
    let mut browser = Browser::start(&stranger.cert.pem(), &[])?;
    let error = browser.open(of.client.base()).err();
    let said = error.map(|error| error.to_string()).unwrap_or_default();
    ensure!(
        said.contains("ERR_CERT_AUTHORITY_INVALID"),
        "the browser says {said:?}"
    );
    Ok(())
}
