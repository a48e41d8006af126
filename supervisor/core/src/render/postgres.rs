//! PostgreSQL's three files: sizes from the machine's memory, one Unix socket, and who may come in through it.

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// Sizes that follow from the machine. Memory is shared with Mattermost (130 MiB at rest, several hundred with plugins
/// and uploads) and the page cache, so none of them may count on all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// MiB.
    pub shared_buffers: u64,
    /// MiB; only tells the planner what the page cache may hold.
    pub effective_cache_size: u64,
    /// MiB for each of `CREATE INDEX`, `VACUUM` and the autovacuum workers.
    pub maintenance_work_mem: u64,
    /// MiB for each sort or hash.
    pub work_mem: u64,
    /// MiB of write-ahead log between two checkpoints.
    pub max_wal_size: u64,
    pub max_connections: u64,
    /// Mattermost's `SqlSettings.MaxOpenConns`: always below `max_connections`.
    pub max_open_conns: u64,
    pub max_idle_conns: u64,
    pub parallel_workers: u64,
}

impl Sizes {
    /// The vendor's guide (random_page_cost 1.1, work_mem 16MB, shared_buffers at most 20 % on about 4 GiB), scaled down
    /// for less and up for more memory.
    #[must_use]
    pub fn of(memory_bytes: u64, cpus: u32) -> Self {
        // A machine that cannot say how much it has is treated as the smallest that is supported.
        let memory = (memory_bytes / MIB).max(512);
        let share = if memory_bytes > 16 * GIB { 4 } else { 5 };
        let work_mem = match memory {
            0..1536 => 4,
            1536..3584 => 8,
            3584.. => 16,
        };
        // Each connection costs PostgreSQL some 10 MiB once it has served queries.
        let max_open_conns = (memory / 40).clamp(20, 300);
        Self {
            shared_buffers: (memory / share).clamp(64, 16 * 1024),
            effective_cache_size: memory / 2,
            maintenance_work_mem: (memory / 32).clamp(32, 1024),
            work_mem,
            max_wal_size: (memory / 2).clamp(512, 4096),
            // Beside the pool: its twin for the configuration store, `mattermost db version`, plugins, an
            // administrator's session, backups, and three that PostgreSQL keeps for the superuser.
            max_connections: max_open_conns + 30,
            max_open_conns,
            max_idle_conns: max_open_conns / 2,
            parallel_workers: u64::from(cpus.clamp(1, 64)),
        }
    }
}

pub(super) fn conf(sizes: &Sizes) -> String {
    let Sizes {
        shared_buffers,
        effective_cache_size,
        maintenance_work_mem,
        work_mem,
        max_wal_size,
        max_connections,
        parallel_workers,
        ..
    } = sizes;
    let max_worker_processes = parallel_workers + 8;
    let per_gather = (parallel_workers / 2).min(4);
    format!(
        "# Rendered at boot. Changes here are lost.
cluster_name = 'atalaya'
hba_file = '/run/atalaya/conf/pg_hba.conf'
ident_file = '/run/atalaya/conf/pg_ident.conf'

# Only the Unix socket; who may use it is in pg_hba.conf.
listen_addresses = ''
unix_socket_directories = '/run/postgresql'
unix_socket_permissions = 0777
max_connections = {max_connections}
superuser_reserved_connections = 3

shared_buffers = {shared_buffers}MB
effective_cache_size = {effective_cache_size}MB
work_mem = {work_mem}MB
maintenance_work_mem = {maintenance_work_mem}MB
huge_pages = try
dynamic_shared_memory_type = posix
max_worker_processes = {max_worker_processes}
max_parallel_workers = {parallel_workers}
max_parallel_workers_per_gather = {per_gather}
max_parallel_maintenance_workers = {per_gather}
random_page_cost = 1.1
effective_io_concurrency = 200
# The image has no LLVM.
jit = off

# Nothing that was acknowledged is ever lost.
fsync = on
synchronous_commit = on
full_page_writes = on
data_sync_retry = off
wal_level = replica
wal_compression = on
max_wal_size = {max_wal_size}MB
min_wal_size = 80MB
checkpoint_timeout = 5min
checkpoint_completion_target = 0.9
restart_after_crash = on

autovacuum_max_workers = 4
autovacuum_vacuum_cost_limit = 500

# Log lines go to the supervisor, which keeps them. Statements are not logged: they hold what people wrote.
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%q%u@%d[%p] '
log_min_error_statement = panic
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_checkpoints = on
log_lock_waits = on
log_autovacuum_min_duration = 10s
log_timezone = 'UTC'
lc_messages = 'C'

timezone = 'UTC'
datestyle = 'iso, mdy'
client_encoding = 'UTF8'
# Mattermost's indexes are made for it.
default_text_search_config = 'pg_catalog.english'
"
    )
}

pub(super) fn hba() -> String {
    "# Rendered at boot. Changes here are lost.
# The kernel says who is at the other end of the socket; there is no password anywhere.
local  mattermost  mattermost  peer map=atalaya
local  all         postgres    peer map=atalaya
local  replication postgres    peer map=atalaya
"
    .to_owned()
}

pub(super) fn ident() -> String {
    "# Rendered at boot. Changes here are lost.
# map    system user  database role
atalaya  mattermost   mattermost
atalaya  postgres     postgres
atalaya  root         postgres
"
    .to_owned()
}
