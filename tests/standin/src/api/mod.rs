//! API v4 over HTTP: which path goes where. The same paths serve the network and the local-mode socket.

mod address;
mod bots;
mod caller;
mod channels;
mod configuration;
mod error;
mod filebody;
mod files;
mod headers;
mod login;
mod page;
mod posts;
mod system;
mod teams;
mod tokens;
mod users;
mod websocket;

pub use address::Peer;
pub use caller::Local;

use crate::config::Config;
use crate::faults::Faults;
use crate::hub::Hub;
use crate::layout::Identity;
use crate::store::Pool;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post, put};
use error::ApiError;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// What the handlers share. Only the configuration changes while the server runs.
pub struct App {
    pub pool: Pool,
    pub hub: Hub,
    pub faults: Faults,
    pub identity: Identity,
    pub files: PathBuf,
    pub client: PathBuf,
    pub server_id: String,
    /// The configuration's own database, where it is kept in one.
    pub config_pool: Option<Pool>,
    pub environment: Vec<(String, String)>,
    pub config: RwLock<Arc<Config>>,
    /// Password checks are serialised, as in the real server.
    pub password_gate: tokio::sync::Mutex<()>,
}

impl App {
    pub fn config(&self) -> Arc<Config> {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// `VERSION.BUILD.CONFIGURATION.LICENSED`.
    pub fn version_id(&self) -> String {
        let version = &self.identity.version;
        format!("{version}.{version}.{}.false", self.config().digest())
    }
}

/// Reads a JSON body; `what` names it in the error.
fn parse_body<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError {
        detail: error.to_string(),
        ..ApiError::bad_body(what)
    })
}

/// `page` and `per_page` as an offset and a limit.
#[derive(serde::Deserialize)]
struct Paging {
    #[serde(default)]
    page: i64,
    #[serde(default)]
    per_page: Option<i64>,
}

impl Paging {
    fn limits(&self) -> (i64, i64) {
        let limit = self.per_page.unwrap_or(60).clamp(1, 200);
        (self.page.clamp(0, 1_000_000) * limit, limit)
    }
}

pub fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .merge(system_routes())
        .merge(user_routes())
        .merge(team_routes())
        .merge(channel_routes())
        .merge(post_routes());
    Router::new()
        .nest("/api/v4", api)
        .route("/api/{*path}", any(page::api_not_found))
        .route("/static/{*path}", get(page::static_file))
        .fallback(page::root)
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            headers::add,
        ))
        .with_state(app)
}

fn system_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/system/ping", get(system::ping))
        .route("/websocket", get(websocket::connect))
        .route("/users/websocket", get(websocket::connect))
        .route("/config/client", get(configuration::client))
        .route("/license/client", get(configuration::license))
        .route(
            "/config",
            get(configuration::show).put(configuration::replace),
        )
        .route("/config/patch", put(configuration::replace))
        .route("/config/reload", post(configuration::reload))
}

fn user_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/users/login", post(login::login))
        .route("/users/logout", post(login::logout))
        .route("/users", get(users::list).post(users::create))
        .route("/users/ids", post(users::among))
        .route("/users/usernames", post(users::among))
        .route("/users/search", post(users::search))
        .route("/users/username/{name}", get(users::by_name))
        .route("/users/email/{email}", get(users::by_email))
        .route("/users/tokens/revoke", post(tokens::revoke))
        .route(
            "/users/{id}",
            get(users::show).put(users::patch).delete(users::delete),
        )
        .route("/users/{id}/patch", put(users::patch))
        .route("/users/{id}/roles", put(users::roles))
        .route("/users/{id}/active", put(users::active))
        .route("/users/{id}/password", put(users::password))
        .route("/users/{id}/email/verify/member", post(users::verify))
        .route("/users/{id}/convert_to_bot", post(bots::convert))
        .route("/users/{id}/audits", get(login::audits))
        .route("/users/{id}/sessions", get(login::sessions))
        .route("/users/{id}/sessions/revoke", post(login::revoke))
        .route("/users/{id}/sessions/revoke/all", post(login::revoke_all))
        .route("/users/{id}/tokens", get(tokens::list).post(tokens::create))
        .route("/users/{id}/teams", get(teams::of_user))
        .route("/users/{id}/teams/{team}/channels", get(channels::of_user))
        .route("/bots", get(bots::list).post(bots::create))
        .route("/bots/{id}", get(bots::show))
}

fn team_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/teams", get(teams::list).post(teams::create))
        .route("/teams/name/{name}", get(teams::by_name))
        .route("/teams/{id}", get(teams::show).delete(teams::delete))
        .route(
            "/teams/{id}/members",
            get(teams::members).post(teams::add_member),
        )
        .route("/teams/{id}/members/batch", post(teams::add_members))
        .route(
            "/teams/{id}/members/{user}",
            get(teams::member).delete(teams::remove_member),
        )
        .route("/teams/{id}/channels", get(channels::of_team))
        .route("/teams/{id}/channels/name/{name}", get(channels::by_name))
        .route(
            "/teams/name/{team}/channels/name/{name}",
            get(channels::by_names),
        )
        .route("/teams/{id}/posts/search", post(posts::search))
}

fn channel_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/channels", post(channels::create))
        .route(
            "/channels/{id}",
            get(channels::show).delete(channels::delete),
        )
        .route(
            "/channels/{id}/members",
            get(channels::members).post(channels::add_member),
        )
        .route(
            "/channels/{id}/members/{user}",
            get(channels::member).delete(channels::remove_member),
        )
        .route("/channels/{id}/posts", get(posts::of_channel))
}

fn post_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/posts", post(posts::create))
        .route("/posts/{id}", get(posts::show).delete(posts::remove))
        .route("/posts/{id}/patch", put(posts::edit))
        .route("/posts/{id}/files/info", get(posts::files))
        .route(
            "/files",
            post(files::upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/files/{id}", get(files::download))
        .route("/files/{id}/info", get(files::info))
}
