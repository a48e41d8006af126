//! What port 80 answers: an authority's question whether this machine has the name, the internal authority's certificate and how to trust
//! it, and for everything else the way to the site.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::instructions;
use crate::page;
use crate::reload::Current;
use crate::tls::certificates::Certificates;
use crate::tls::challenges::Challenges;

/// RFC 8555 section 8.3.
const CHALLENGE: &str = "/.well-known/acme-challenge/";

pub struct Redirect {
    settings: Current,
    certificates: Arc<Certificates>,
    challenges: Challenges,
}

impl Redirect {
    pub fn new(settings: Current, certificates: Arc<Certificates>, challenges: Challenges) -> Self {
        Self {
            settings,
            certificates,
            challenges,
        }
    }

    /// 308 keeps method and body, so that a misconfigured client either works or fails loudly.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        let path = request.uri().path();
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            if let Some(token) = path.strip_prefix(CHALLENGE) {
                return self.prove(token);
            }
            let authority = || self.certificates.authority();
            match path {
                "/ca.crt" => return instructions::certificate(authority().as_deref()),
                "/ca" => return instructions::page(authority().as_deref(), request.headers()),
                _ => {}
            }
        }
        self.send_on(request)
    }

    fn prove(&self, token: &str) -> Response<String> {
        match self.challenges.token(token) {
            Some(authorization) => {
                let mut response = Response::new(authorization);
                page::own_headers(response.headers_mut(), "application/octet-stream");
                response
            }
            None => page::error(StatusCode::NOT_FOUND, "", "there is no such order", ""),
        }
    }

    fn send_on<B>(&self, request: &Request<B>) -> Response<String> {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let location = self
            .settings
            .load()
            .site
            .as_ref()
            .and_then(|site| HeaderValue::from_str(&site.location(target)).ok());
        let mut response = if let Some(location) = location {
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            let headers = response.headers_mut();
            headers.insert(header::LOCATION, location);
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
            response
        } else {
            let message = "this server does not know its own address yet; nothing is lost, try again in a minute";
            let mut response = page::error(StatusCode::SERVICE_UNAVAILABLE, "", message, "");
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            response
        };
        // A body that is not wanted is not read either.
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
