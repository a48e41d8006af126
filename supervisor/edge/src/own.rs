//! What the edge answers for itself, below `/_atalaya/`: figures for a monitoring system. Mattermost is never asked for these paths.

use std::net::IpAddr;

use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::watch;

use crate::admission::Admission;
use crate::connections::{Connections, Door};
use crate::log::Log;
use crate::metrics::{CONTENT_TYPE, Metrics, Reading};
use crate::page;
use crate::settings::Settings;
use crate::tls::report::Report;

const PREFIX: &str = "/_atalaya/";
const METRICS: &str = "/_atalaya/metrics";

/// Where the figures come from that are states elsewhere.
#[derive(Clone)]
pub struct Own {
    pub connections: Connections,
    pub admission: watch::Receiver<Admission>,
    pub log: Log,
}

impl Own {
    /// None: the path is not the edge's own.
    pub fn answer(
        &self,
        request: &Parts,
        (address, door): (IpAddr, Door),
        settings: &Settings,
        metrics: &Metrics,
        id: &str,
    ) -> Option<Response<String>> {
        let path = request.uri.path();
        if !path.starts_with(PREFIX) {
            return None;
        }
        let allowed = &settings.access.metrics;
        let refuse = |status, message| Some(page::error(status, path, message, id));
        if path != METRICS {
            refuse(StatusCode::NOT_FOUND, "there is no such page")
        } else if door == Door::Public && !allowed.iter().any(|net| net.contains(&address)) {
            let message = "this address may not read the figures; edge.allow.metrics in appliance.toml names those that may";
            refuse(StatusCode::FORBIDDEN, message)
        } else if !matches!(request.method, Method::GET | Method::HEAD) {
            refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "the figures can only be read",
            )
        } else {
            let mut response = Response::new(metrics.render(&self.read(settings)));
            page::own_headers(response.headers_mut(), CONTENT_TYPE);
            Some(response)
        }
    }

    fn read(&self, settings: &Settings) -> Reading {
        let certificate = std::fs::read(settings.public_dir.join("certificate.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<Report>(&text).ok());
        Reading {
            connections: self.connections.open(),
            admitting: self.admission.borrow().is_open(),
            certificate_not_after: certificate.as_ref().map(|report| report.not_after),
            renewal_failures: certificate.map_or(0, |report| report.renewal.failures),
            log_lines_lost: self.log.lost(),
        }
    }
}
