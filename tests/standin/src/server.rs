//! A server's life: configuration, database, listening, ready, orderly stop. Each failure is one message.

use crate::api::{App, Local, router};
use crate::config::{Config, storage};
use crate::faults::Faults;
use crate::hub::Hub;
use crate::layout::{self, Identity};
use crate::listen;
use crate::logline::{error, info, lowest, warn};
use crate::store::{Pool, StoreError, migrations, tokens};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("failed to load configuration")]
    Config(#[from] storage::ConfigError),
    #[error("failed to initialize platform: cannot create store: error setting up connections")]
    Connect(#[source] StoreError),
    #[error(
        "failed to initialize platform: cannot create store: failed to apply database migrations"
    )]
    Migrate(#[source] StoreError),
    #[error("failed to use the database")]
    Store(#[source] StoreError),
    #[error(
        "SqlSettings.DataSource is empty: give MM_CONFIG or MM_SQLSETTINGS_DATASOURCE a postgres:// address"
    )]
    NoDataSource,
    #[error("unable to find the {0} directory")]
    NoDirectory(&'static str),
    #[error("failed to make the file directory {path}")]
    Files {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to watch for signals")]
    Signals(#[source] std::io::Error),
    #[error("told to exit by a fault ({0})")]
    Fault(&'static str),
}

/// Where the configuration comes from: `-c`, else `MM_CONFIG`, else the release's own file.
pub fn config_source(option: Option<String>) -> String {
    option
        .or_else(|| std::env::var("MM_CONFIG").ok().filter(|s| !s.is_empty()))
        .or_else(|| layout::find("config/config.json").map(|p| p.display().to_string()))
        .unwrap_or_else(|| "config.json".to_owned())
}

/// A configuration with its pools, before anything is migrated.
pub struct Opened {
    pub config: Config,
    pub environment: Vec<(String, String)>,
    pub config_pool: Option<Pool>,
    pub pool: Pool,
    pub source: String,
}

/// Reads the configuration and prepares the database's pool, waiting for PostgreSQL as the real server does.
pub async fn open(config_source: &str) -> Result<Opened, ServerError> {
    let environment: Vec<(String, String)> = std::env::vars()
        .filter(|(n, _)| n.starts_with("MM_"))
        .collect();
    let (config_pool, stored) = if storage::is_database(config_source) {
        let pool = Pool::new(config_source, 2).map_err(ServerError::Connect)?;
        pool.wait_for_server(config_source)
            .await
            .map_err(ServerError::Connect)?;
        let first = std::env::var_os("MM_CUSTOM_DEFAULTS_PATH").map(PathBuf::from);
        let stored = storage::load(&pool, first.as_deref()).await?;
        (Some(pool), stored)
    } else {
        (None, storage::read_file(Path::new(config_source))?)
    };
    let config = Config::new(stored, &environment);
    let given = config.text("SqlSettings", "DataSource").to_owned();
    let from_environment = environment
        .iter()
        .any(|(n, v)| n == "MM_SQLSETTINGS_DATASOURCE" && !v.is_empty());
    // A configuration in the database lives in the server's own, unless the environment names another one.
    let source = if config_pool.is_some() && !from_environment {
        config_source.to_owned()
    } else {
        given
    };
    if source.is_empty() {
        return Err(ServerError::NoDataSource);
    }
    let size = usize::try_from(config.number("SqlSettings", "MaxOpenConns")).unwrap_or(1);
    let pool = Pool::new(&source, size).map_err(ServerError::Connect)?;
    Ok(Opened {
        config,
        environment,
        config_pool,
        pool,
        source,
    })
}

fn log_start(identity: &Identity) {
    let version = &identity.version;
    let hash = &identity.build_hash;
    info("Server is initializing...", "platform/service.go:127", &[]);
    info(
        &format!(
            "Current version is {version} ({version}/{}/{hash}/none)",
            identity.build_date
        ),
        "platform/service.go:129",
        &[
            ("current_version", json!(version)),
            ("build_number", json!(version)),
            ("build_date", json!(identity.build_date)),
            ("build_hash", json!(hash)),
            ("build_hash_enterprise", json!("none")),
            ("service_environment", json!("production")),
        ],
    );
    info(
        "Team Edition Build",
        "platform/service.go:149",
        &[("enterprise_build", json!(false))],
    );
    warn(
        "THIS IS A STAND-IN FOR TESTS, NOT MATTERMOST.",
        "standin/server.rs",
        &[("notice", json!(identity.notice))],
    );
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config_option: Option<String>) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Signals)?;
    let identity = layout::identity();
    log_start(&identity);
    let told = std::env::var("MM_STANDIN_FAULTS").unwrap_or_default();
    let fault_words = format!("{told} {}", identity.faults);
    let source = config_source(config_option);
    let app = tokio::select! {
        app = prepare(&source, identity, &fault_words) => app?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    serve(app, &source, terminate, interrupt).await
}

/// Everything up to listening.
async fn prepare(
    source: &str,
    identity: Identity,
    fault_words: &str,
) -> Result<Arc<App>, ServerError> {
    tokio::time::sleep(Faults::new(fault_words, None).slow_start()).await;
    let opened = open(source).await?;
    let config = opened.config;
    lowest(config.text("LogSettings", "ConsoleLevel"));
    for name in ["i18n", "templates"] {
        layout::find(name).ok_or(ServerError::NoDirectory(name))?;
    }
    let files = PathBuf::from(config.text("FileSettings", "Directory"));
    std::fs::create_dir_all(&files).map_err(|source| ServerError::Files {
        path: files.clone(),
        source,
    })?;
    let faults = Faults::new(fault_words, Some(&files));
    if !faults.list().is_empty() || !faults.unknown().is_empty() {
        warn(
            "Faults are switched on.",
            "standin/server.rs",
            &[
                ("faults", json!(faults.list())),
                ("unknown", json!(faults.unknown())),
            ],
        );
    }
    if faults.on("exit-at-start") {
        return Err(ServerError::Fault("exit-at-start"));
    }
    opened
        .pool
        .wait_for_server(&opened.source)
        .await
        .map_err(ServerError::Connect)?;
    let known = migrations::known(layout::find("migrations").as_deref());
    migrations::migrate(&opened.pool, &known, &faults)
        .await
        .map_err(ServerError::Migrate)?;
    info(
        "Loaded system translations",
        "i18n/i18n.go:173",
        &[("for locale", json!("en"))],
    );
    let server_id = tokens::system_value(&opened.pool, "DiagnosticId", &crate::ids::new_id())
        .await
        .map_err(ServerError::Store)?;
    info(
        "server ID is set",
        "telemetry/telemetry.go:50",
        &[("id", json!(server_id))],
    );
    let client = layout::find("client/root.html")
        .and_then(|p| p.parent().map(Path::to_path_buf))
        .unwrap_or_else(|| {
            error(
                "The client directory is missing: the page cannot be shown.",
                "standin/server.rs",
                &[],
            );
            PathBuf::from("/nonexistent")
        });
    Ok(Arc::new(App {
        pool: opened.pool,
        hub: Hub::default(),
        faults,
        identity,
        files,
        client,
        server_id,
        config_pool: opened.config_pool,
        environment: opened.environment,
        config: RwLock::new(Arc::new(config)),
        password_gate: tokio::sync::Mutex::new(()),
    }))
}

async fn serve(
    app: Arc<App>,
    source: &str,
    mut terminate: Signal,
    mut interrupt: Signal,
) -> Result<(), ServerError> {
    let config = app.config();
    let directory = std::env::current_dir().unwrap_or_default();
    info(
        "Printing current working",
        "app/server.go:327",
        &[("directory", json!(directory))],
    );
    info(
        "Loaded config",
        "app/server.go:328",
        &[("source", json!(crate::store::masked(source)))],
    );
    info("Starting Server...", "app/server.go:684", &[]);
    let address = listen::address(config.text("ServiceSettings", "ListenAddress"));
    let listen_error = |address: &str| {
        let address = address.to_owned();
        |source| ServerError::Listen { address, source }
    };
    let listener = TcpListener::bind(&address)
        .await
        .map_err(listen_error(&address))?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(listen::accept_tcp(
        listener,
        router(app.clone()),
        stopped.clone(),
    ));
    let socket = config
        .flag("ServiceSettings", "EnableLocalMode")
        .then(|| PathBuf::from(config.text("ServiceSettings", "LocalModeSocketLocation")));
    if let Some(path) = &socket {
        let shown = path.display().to_string();
        let listener = listen::bind_local(path).map_err(listen_error(&shown))?;
        let routes = router(app.clone()).layer(axum::Extension(Local));
        tasks.spawn(listen::accept_local(listener, routes, stopped));
    }
    info(
        &format!("Server is listening on {address}"),
        "app/server.go:745",
        &[("address", json!(address))],
    );
    if !app.faults.on("no-ready") {
        info(
            "Sending systemd READY notification.",
            "commands/server.go:91",
            &[],
        );
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
    }
    if app.faults.on("exit-after-ready") {
        return Err(ServerError::Fault("exit-after-ready"));
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if !app.faults.on("ignore-term") {
            break;
        }
    }
    info("Stopping Server...", "app/server.go:522", &[]);
    app.hub.close();
    stop.send(true).ok();
    while tasks.join_next().await.is_some() {}
    if let Some(path) = &socket {
        std::fs::remove_file(path).ok();
    }
    info("Server stopped", "app/server.go:576", &[]);
    Ok(())
}
