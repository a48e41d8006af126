//! What port 80 answers: the authority's certificate at /ca.crt, and for everything else the way to the site.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::settings::Site;

pub struct Redirect {
    site: Option<Site>,
    authority_pem: String,
}

impl Redirect {
    pub fn new(site: Option<Site>, authority_pem: String) -> Self {
        Self {
            site,
            authority_pem,
        }
    }

    /// 308 keeps method and body, so that a misconfigured client either works or fails loudly.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        if request.uri().path() == "/ca.crt"
            && matches!(*request.method(), Method::GET | Method::HEAD)
        {
            let mut response = Response::new(self.authority_pem.clone());
            let headers = response.headers_mut();
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-x509-ca-cert"),
            );
            headers.insert(
                header::CONTENT_DISPOSITION,
                HeaderValue::from_static("attachment; filename=\"atalaya-ca.crt\""),
            );
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
            return response;
        }
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        let headers = response.headers_mut();
        // A body that is not wanted is not read either.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        );
        if let Some(location) = self.site.as_ref().map(|site| site.location(target))
            && let Ok(location) = HeaderValue::from_str(&location)
        {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}
