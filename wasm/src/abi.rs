//! proxy-wasm 0.2.1 as Envoy has it: the callbacks that it makes, the calls that it takes, and the only unsafe code
//! of this host.
//!
//! A callback is an exported function that does nothing but call [`contexts`]. A call is an imported function behind
//! a safe one of the same name. Two things make these sound:
//!
//! - Envoy reads the bytes that it is given, and writes where it is told, before a call returns. It keeps no pointer.
//! - Bytes that Envoy returns are in memory that it asked [`proxy_on_memory_allocate`] for, one allocation each. It
//!   fills all of that memory, and never uses it again.
//!
//! A call may call back before it returns, see [`contexts`].
#![allow(unsafe_code, reason = "Envoy finds functions by their names, and passes pointers")]

use std::ptr::null_mut;
use std::time::Duration;

use crate::wire::{decode_headers, encode_headers, encode_path};
use crate::{contexts, logger};

/// The header maps of the context at hand.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum MapType {
    /// The head of a request.
    RequestHeaders = 0,
    /// Its trailers.
    RequestTrailers = 1,
    /// The head of its response.
    ResponseHeaders = 2,
    /// The head of the answer to a callout.
    CallResponseHeaders = 6,
}

/// The buffers of the context at hand.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum BufferType {
    /// As much of a request's body as Envoy holds.
    RequestBody = 0,
    /// The body of the answer to a callout.
    CallResponseBody = 4,
    /// The configuration that a root context is to load.
    PluginConfiguration = 7,
}

/// What Envoy does with a request or response after a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// It goes on.
    Continue = 0,
    /// It is held.
    Pause = 1,
}

/// The kinds of metrics.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum MetricType {
    /// It only goes up.
    Counter = 0,
    /// It goes up and down.
    Gauge = 1,
    /// It collects values.
    Histogram = 2,
}

/// The levels of Envoy's log.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
#[allow(missing_docs, reason = "they are their names")]
pub enum LogLevel {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

/// Why a call failed, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(u32);

impl Status {
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self(1);
    /// An argument names something that Envoy does not know.
    pub const BAD_ARGUMENT: Self = Self(2);
}

/// Writes a line into Envoy's log.
pub fn log(level: LogLevel, message: &str) {
    unsafe { import::proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// Nanoseconds since 1970 by Envoy's clock; 0 if it has none.
pub fn current_time_nanoseconds() -> u64 {
    let mut time = 0;
    unsafe { import::proxy_get_current_time_nanoseconds(&mut time) };
    time
}

/// Lets Envoy call [`contexts::tick`] again and again with this period, in whole milliseconds; never if it is 0.
pub fn set_tick_period(period: Duration) {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    unsafe { import::proxy_set_tick_period_milliseconds(millis) };
}

/// At most `size` bytes of a buffer from `start` on.
pub fn buffer(buffer: BufferType, start: usize, size: usize) -> Result<Vec<u8>, Status> {
    received(|data, length| unsafe { import::proxy_get_buffer_bytes(buffer as u32, start, size, data, length) })
}

/// Hands each header of a map to `visit`, in their order. Envoy copies the whole map.
pub fn visit_headers(map: MapType, visit: impl FnMut(&[u8], &[u8])) {
    let bytes = received(|data, size| unsafe { import::proxy_get_header_map_pairs(map as u32, data, size) });
    decode_headers(&bytes.unwrap_or_default(), visit);
}

/// The value of the first header called `name`.
pub fn header(map: MapType, name: &str) -> Option<Vec<u8>> {
    let (name, length) = (name.as_ptr(), name.len());
    received(|data, size| unsafe { import::proxy_get_header_map_value(map as u32, name, length, data, size) }).ok()
}

/// Removes every header called `name`.
pub fn remove_header(map: MapType, name: &str) -> Result<(), Status> {
    checked(unsafe { import::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Puts one header in place of every one called `name`.
pub fn set_header(map: MapType, name: &str, value: &[u8]) -> Result<(), Status> {
    let (name, length) = (name.as_ptr(), name.len());
    checked(unsafe { import::proxy_replace_header_map_value(map as u32, name, length, value.as_ptr(), value.len()) })
}

/// Puts a header behind those called `name`.
pub fn add_header(map: MapType, name: &str, value: &[u8]) -> Result<(), Status> {
    let (name, length) = (name.as_ptr(), name.len());
    checked(unsafe { import::proxy_add_header_map_value(map as u32, name, length, value.as_ptr(), value.len()) })
}

/// The property at this path.
pub fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = encode_path(path);
    received(|data, size| unsafe { import::proxy_get_property(path.as_ptr(), path.len(), data, size) }).ok()
}

/// What lies in shared data at `key`, and its version.
pub fn shared_data(key: &str) -> Option<(Vec<u8>, u32)> {
    let mut version = 0;
    let value = received(|data, size| unsafe {
        import::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut version)
    });
    Some((value.ok()?, version))
}

/// Puts `value` there, if it still has this version; version 0 replaces all.
pub fn set_shared_data(key: &str, value: &[u8], version: u32) -> Result<(), Status> {
    checked(unsafe { import::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) })
}

/// Makes a queue of this name, on which the root context at hand hears of messages.
pub fn register_shared_queue(name: &str) -> Result<u32, Status> {
    let mut queue = 0;
    checked(unsafe { import::proxy_register_shared_queue(name.as_ptr(), name.len(), &mut queue) }).map(|()| queue)
}

/// The next message of a queue.
pub fn dequeue(queue: u32) -> Option<Vec<u8>> {
    received(|data, size| unsafe { import::proxy_dequeue_shared_queue(queue, data, size) }).ok()
}

/// Puts a message into a queue.
pub fn enqueue(queue: u32, message: &[u8]) -> Result<(), Status> {
    checked(unsafe { import::proxy_enqueue_shared_queue(queue, message.as_ptr(), message.len()) })
}

/// Makes `context` the one that the calls about headers and streams are for.
pub fn set_effective_context(context: u32) -> Result<(), Status> {
    checked(unsafe { import::proxy_set_effective_context(context) })
}

/// Lets the request of the context at hand go on.
pub fn resume_request() -> Result<(), Status> {
    const REQUEST: u32 = 0;
    checked(unsafe { import::proxy_continue_stream(REQUEST) })
}

/// Answers the request of the context at hand.
pub fn send_local_response(status: u16, headers: &[(&str, &[u8])], body: &str) -> Result<(), Status> {
    const NO_GRPC_STATUS: i32 = -1;
    let headers = encode_headers(headers);
    checked(unsafe {
        import::proxy_send_local_response(
            status.into(),
            null_mut(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// Sends a request to a cluster. The answer comes to [`contexts::call_response`] under the number returned.
pub fn http_call(cluster: &str, headers: &[(&str, &[u8])], body: &[u8], timeout: Duration) -> Result<u32, Status> {
    let headers = encode_headers(headers);
    // The trailers, of which there are none.
    let trailers = encode_headers(&[]);
    let mut call = 0;
    checked(unsafe {
        import::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            &mut call,
        )
    })
    .map(|()| call)
}

/// Calls one of Envoy's foreign functions.
pub fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>, Status> {
    received(|data, size| unsafe {
        import::proxy_call_foreign_function(name.as_ptr(), name.len(), arguments.as_ptr(), arguments.len(), data, size)
    })
}

/// Makes a metric, or finds the one of this name.
pub fn define_metric(kind: MetricType, name: &str) -> Result<u32, Status> {
    let mut metric = 0;
    checked(unsafe { import::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut metric) })
        .map(|()| metric)
}

/// Adds to a counter or gauge.
pub fn increment_metric(metric: u32, by: i64) -> Result<(), Status> {
    checked(unsafe { import::proxy_increment_metric(metric, by) })
}

/// Sets a gauge, or gives a histogram a value.
pub fn record_metric(metric: u32, value: u64) -> Result<(), Status> {
    checked(unsafe { import::proxy_record_metric(metric, value) })
}

/// Whether a call succeeded.
fn checked(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// The bytes that a call returns by way of the two pointers it gets. Of what is empty, Envoy allocates nothing.
fn received(call: impl FnOnce(&mut *mut u8, &mut usize) -> u32) -> Result<Vec<u8>, Status> {
    let (mut data, mut size) = (null_mut(), 0);
    checked(call(&mut data, &mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: `data` came from `proxy_on_memory_allocate`, which made it of a box of as many bytes.
    Ok(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(data, size)) }.into_vec())
}

/// Gives Envoy memory for what a call returns.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}

/// Envoy has loaded the module.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: the linker makes it, for exactly one call before all others.
    unsafe { __wasm_call_ctors() };
    logger::install();
}

/// Tells Envoy which version of proxy-wasm this is.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    if root == 0 { contexts::create_root(context) } else { contexts::create_stream(context, root) }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    contexts::delete(context);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: usize) -> bool {
    contexts::configure(root, size)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    contexts::tick(root);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root: u32, queue: u32) {
    contexts::queue_ready(root, queue);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(root: u32, call: u32, headers: usize, body: usize, _trailers: usize) {
    contexts::call_response(root, call, headers, body);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(stream: u32, _count: usize, end_of_stream: bool) -> Action {
    contexts::request_headers(stream, end_of_stream)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(stream: u32, size: usize, end_of_stream: bool) -> Action {
    contexts::request_body(stream, size, end_of_stream)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(stream: u32, _count: usize) -> Action {
    contexts::request_trailers(stream)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(stream: u32, _count: usize, _end_of_stream: bool) -> Action {
    contexts::response_headers(stream)
}

/// Envoy's own functions. Each returns 0, or why it did nothing.
mod import {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
        pub fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_add_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            version: *mut u32,
        ) -> u32;
        pub fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            version: u32,
        ) -> u32;
        pub fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> u32;
        pub fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_enqueue_shared_queue(queue: u32, message: *const u8, size: usize) -> u32;
        pub fn proxy_set_effective_context(context: u32) -> u32;
        pub fn proxy_continue_stream(stream: u32) -> u32;
        pub fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub fn proxy_http_call(
            cluster: *const u8,
            cluster_size: usize,
            headers: *const u8,
            headers_size: usize,
            body: *const u8,
            body_size: usize,
            trailers: *const u8,
            trailers_size: usize,
            timeout: u32,
            call: *mut u32,
        ) -> u32;
        pub fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
        pub fn proxy_increment_metric(metric: u32, by: i64) -> u32;
        pub fn proxy_record_metric(metric: u32, value: u64) -> u32;
    }
}
