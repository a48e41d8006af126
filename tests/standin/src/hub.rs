//! Who is connected by WebSocket, and delivery of events to them. Decides who gets an event; knows no sockets.
//!
//! A client that does not read loses its connection instead of holding up the others.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that may wait for one slow client.
const QUEUE: usize = 256;

/// Who gets an event.
pub enum Audience<'a> {
    User(&'a str),
    Channel { id: &'a str, members: &'a [String] },
}

#[derive(Default)]
pub struct Hub {
    connections: Mutex<HashMap<String, (String, Sender<Event>)>>,
}

/// An event as sent, without its sequence number, which counts per connection.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub data: Value,
    pub broadcast: Value,
}

impl Event {
    pub fn new(name: &str, data: Value, audience: &Audience<'_>) -> Self {
        let (user, channel) = match audience {
            Audience::User(user) => (*user, ""),
            Audience::Channel { id, .. } => ("", *id),
        };
        Self {
            name: name.to_owned(),
            data,
            broadcast: json!({
                "omit_users": null, "user_id": user, "channel_id": channel, "team_id": "",
                "connection_id": "", "omit_connection_id": "",
            }),
        }
    }
}

impl Hub {
    pub fn join(&self, connection: &str, user: &str) -> Receiver<Event> {
        let (sender, receiver) = channel(QUEUE);
        self.lock()
            .insert(connection.to_owned(), (user.to_owned(), sender));
        receiver
    }

    pub fn leave(&self, connection: &str) {
        self.lock().remove(connection);
    }

    /// Ends all connections of a user, as at log-out. Their receivers then close.
    pub fn drop_user(&self, user: &str) {
        self.lock().retain(|_, (owner, _)| owner != user);
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.lock().clear();
    }

    pub fn publish(&self, name: &str, data: Value, audience: &Audience<'_>) {
        let event = Event::new(name, data, audience);
        self.lock().retain(|_, (user, sender)| {
            let wanted = match audience {
                Audience::User(one) => user == one,
                Audience::Channel { members, .. } => members.contains(user),
            };
            !wanted || sender.try_send(event.clone()).is_ok()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, Sender<Event>)>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_get_a_channels_events() {
        let hub = Hub::default();
        let mut member = hub.join("c1", "anna");
        let mut stranger = hub.join("c2", "boris");
        let members = ["anna".to_owned()];
        let audience = Audience::Channel {
            id: "room",
            members: &members,
        };
        hub.publish("posted", json!({}), &audience);
        assert_eq!(member.try_recv().unwrap().broadcast["channel_id"], "room");
        assert!(stranger.try_recv().is_err());
        hub.drop_user("anna");
        assert!(member.try_recv().is_err());
    }
}
