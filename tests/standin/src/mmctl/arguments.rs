//! The arguments of the real `mmctl`, as far as they are needed.

use clap::{Args, Parser, Subcommand};

/// Stand-in for mmctl, for tests. This is not the vendor's mmctl.
#[derive(Parser)]
#[command(name = "mmctl", disable_version_flag = true)]
pub struct Arguments {
    /// Speak over the server's local-mode socket (MMCTL_LOCAL_SOCKET_PATH)
    #[arg(long, global = true, env = "MMCTL_LOCAL")]
    pub local: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Accepted and without effect, as are the next ones
    #[arg(long, global = true)]
    pub quiet: bool,
    #[arg(long, global = true)]
    pub strict: bool,
    #[arg(long, global = true)]
    pub disable_pager: bool,
    #[arg(long, global = true)]
    pub suppress_warnings: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    #[command(subcommand)]
    User(User),
    #[command(subcommand)]
    Token(Token),
    #[command(subcommand)]
    Team(Team),
    #[command(subcommand)]
    Channel(Channel),
    #[command(subcommand)]
    Post(Post),
    #[command(subcommand)]
    Config(Config),
    #[command(subcommand)]
    System(System),
    #[command(subcommand)]
    Bot(Bot),
    #[command(subcommand)]
    Roles(Roles),
    Version,
}

#[derive(Args)]
pub struct NewUser {
    #[arg(long)]
    pub username: String,
    #[arg(long)]
    pub email: String,
    #[arg(long)]
    pub password: String,
    #[arg(long, default_value = "")]
    pub nickname: String,
    #[arg(long, default_value = "")]
    pub firstname: String,
    #[arg(long, default_value = "")]
    pub lastname: String,
    #[arg(long)]
    pub system_admin: bool,
    #[arg(long)]
    pub email_verified: bool,
    #[arg(long)]
    pub disable_welcome_email: bool,
    #[arg(long)]
    pub guest: bool,
}

#[derive(Subcommand)]
pub enum User {
    Create(NewUser),
    Convert {
        users: Vec<String>,
        #[arg(long)]
        bot: bool,
    },
    List {
        #[arg(long)]
        all: bool,
    },
    Search {
        users: Vec<String>,
    },
    Activate {
        users: Vec<String>,
    },
    Deactivate {
        users: Vec<String>,
    },
    Delete {
        users: Vec<String>,
        #[arg(long)]
        confirm: bool,
    },
    ChangePassword {
        user: String,
        #[arg(long)]
        password: String,
    },
    Verify {
        users: Vec<String>,
    },
}

#[derive(Subcommand)]
pub enum Token {
    Generate { user: String, description: String },
    List { user: String },
    Revoke { tokens: Vec<String> },
}

#[derive(Subcommand)]
pub enum Team {
    Create {
        #[arg(long)]
        name: String,
        #[arg(long)]
        display_name: String,
        #[arg(long, default_value = "")]
        email: String,
        #[arg(long)]
        private: bool,
    },
    List,
    Delete {
        teams: Vec<String>,
        #[arg(long)]
        confirm: bool,
    },
    #[command(subcommand)]
    Users(Members),
}

#[derive(Subcommand)]
pub enum Members {
    Add { place: String, users: Vec<String> },
    Remove { place: String, users: Vec<String> },
}

#[derive(Subcommand)]
pub enum Channel {
    Create {
        #[arg(long)]
        team: String,
        #[arg(long)]
        name: String,
        #[arg(long)]
        display_name: String,
        #[arg(long, default_value = "")]
        header: String,
        #[arg(long, default_value = "")]
        purpose: String,
        #[arg(long)]
        private: bool,
    },
    List {
        teams: Vec<String>,
    },
    Delete {
        channels: Vec<String>,
        #[arg(long)]
        confirm: bool,
    },
    #[command(subcommand)]
    Users(Members),
}

#[derive(Subcommand)]
pub enum Post {
    Delete {
        posts: Vec<String>,
        #[arg(long)]
        permanent: bool,
        #[arg(long)]
        confirm: bool,
    },
}

#[derive(Subcommand)]
pub enum Config {
    Get { key: String },
    Set { key: String, values: Vec<String> },
    Show,
    Reload,
}

#[derive(Subcommand)]
pub enum System {
    Version,
    Status,
}

#[derive(Subcommand)]
pub enum Bot {
    List,
}

#[derive(Subcommand)]
pub enum Roles {
    SystemAdmin { users: Vec<String> },
    Member { users: Vec<String> },
}
