//! gRPC on any byte stream: tonic's services and clients over hyper's HTTP/2.
//!
//! ```text
//!   Channel ══ HTTP/2 on a stream ══► serve_connection ──► Routes ──► a service of `api`
//! ```
//!
//! tonic's own server and channel bring sockets and tokio's tasks along. Here both ends take a stream that somebody else
//! has opened, and run their tasks on the [runtime](crate::runtime::Runtime), so that a simulated stream serves the very
//! same services as a socket.

mod channel;
mod executor;
mod gather;
mod lookahead;
mod requests;
mod responses;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod timer;
mod unary;

pub use self::channel::{Channel, ChannelOptions};
pub use self::executor::Tasks;
pub(crate) use self::requests::Requests;
pub(crate) use self::responses::Responses;
pub use self::routes::{Response, Routes};
#[cfg(feature = "server")]
pub(crate) use self::server::SEND_BUFFER_BYTES;
pub use self::server::serve_connection;
