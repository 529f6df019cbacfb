//! HTTP as the filter sees it: headers, requests, bodies, the heads of responses, queries, and what a configuration may put
//! on the wire.

pub mod authorization;
pub mod body;
pub mod header_name;
pub mod query;
pub mod request;
pub mod response;
pub mod validation;
