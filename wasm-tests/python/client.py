"""The official Python SDK as an MCP client: it holds fixed conversations and tells all that it saw.

Each line of standard input is a JSON object, and asks for one conversation:

    url           of the server
    headers       go with each request, beside the SDK's own
    revision      of the protocol: "2025-06-18", "2025-11-25", "2026-07-28", or "auto", the newest that both sides know
    conversation  "everything" or "long", with the npm package server-everything; "count" or "hold", with the server
                  of mcp_server.rs

Each line of standard output answers one: {"transcript": ...} or {"failure": "..."}. It ends with its input.

Two talks with one server have equal transcripts, so that two ways to it can be compared. What differs between
any two talks is therefore no part of it: the ids of session and subscription and the time of day have
placeholders, and what comes by several streams, or is handled by the SDK in tasks side by side, is sorted.
"""

import json
import re
import sys
import traceback
import warnings
from contextlib import asynccontextmanager

import anyio
import httpx2
import mcp_types as types
from mcp import Client, ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ToolsListChanged, listen

# The SDK warns of what the newest revision has no more, which is what the older ones are tested with.
warnings.simplefilter("ignore")

# A whole conversation may take this long on a busy machine, in seconds.
PATIENCE = 60

# Headers of an answer that are about a connection, or from whoever passed the answer on.
OF_THE_WAY = {
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-envoy-upstream-service-time",
}

# The revisions in which a session has a stream that belongs to no request.
WITH_STREAM = ("2025-06-18", "2025-11-25")

EVERYTHING = "mcp-servers/everything"
LONG = "trigger-long-running-operation"
PROGRESS = "notifications/progress"
RESOURCE_UPDATED = "notifications/resources/updated"
RESOURCES_CHANGED = "notifications/resources/list_changed"
TOOLS_CHANGED = "notifications/tools/list_changed"


class Listener:
    """Hears what the server says unasked, answers what it asks, and notes every answer of HTTP."""

    def __init__(self):
        self.exchanges = []
        self.notifications = []
        self.asked = []
        self.progress = []
        self.session_id = None
        self.heard = anyio.Event()

    def note(self, where, what):
        where.append(what)
        self.heard.set()
        self.heard = anyio.Event()

    async def until(self, holds):
        """Waits until something was heard that makes `holds` hold."""
        while not holds():
            await self.heard.wait()

    async def until_notified(self, method, times=1):
        await self.until(lambda: sum(told["method"] == method for told in self.notifications) >= times)

    async def until_streaming(self):
        await self.until(lambda: any(exchange["method"] == "GET" for exchange in self.exchanges))

    async def on_answer(self, response):
        request = response.request
        self.session_id = response.headers.get("mcp-session-id", self.session_id)
        exchange = {
            "method": request.method,
            "calls": json.loads(request.content).get("method") if request.method == "POST" else None,
            "resumes": "last-event-id" in request.headers,
            "status": response.status_code,
            "headers": sorted(header for header in response.headers.items() if header[0] not in OF_THE_WAY),
        }
        self.note(self.exchanges, exchange)

    async def on_message(self, message):
        if isinstance(message, Exception):
            raise message
        # Progress is noted with the call that it belongs to.
        if message.method != PROGRESS:
            self.note(self.notifications, dump(message))

    async def on_progress(self, progress, total, message):
        self.note(self.progress, [progress, total, message])

    async def on_elicitation(self, _context, params):
        self.note(self.asked, dump(params))
        return types.ElicitResult(action="accept", content={"name": "Jürgen", "check": True, "integer": 7})

    async def on_sampling(self, _context, params):
        self.note(self.asked, dump(params))
        content = types.TextContent(type="text", text="grüß dich")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    def callbacks(self):
        return {
            "message_handler": self.on_message,
            "elicitation_callback": self.on_elicitation,
            "sampling_callback": self.on_sampling,
        }

    def transcript(self, server, seen):
        notifications = self.notifications
        if server["info"] and server["info"]["name"] == EVERYTHING:
            # It registers its last tools while the client opens the stream that would tell of them.
            notifications = [told for told in notifications if told["method"] != TOOLS_CHANGED]
            # It repeats these every few seconds.
            updates = {json.dumps(told): told for told in notifications if told["method"] == RESOURCE_UPDATED}
            notifications = [told for told in notifications if told["method"] != RESOURCE_UPDATED]
            notifications += updates.values()
        return {
            "server": server,
            "seen": seen,
            "exchanges": in_order(self.exchanges),
            "notifications": in_order(notifications),
            "asked": self.asked,
        }


def dump(model):
    return model and model.model_dump(by_alias=True, mode="json", exclude_none=True)


def in_order(values):
    return sorted(values, key=lambda value: json.dumps(value, sort_keys=True))


async def answer(call):
    """The result, or the error that the server gives instead."""
    try:
        return dump(await call)
    except MCPError as error:
        return {"error": dump(error.error)}


async def everything(session, listener):
    """Something of each kind that server-everything has, without what depends on the machine it runs on."""
    listings = session.list_tools, session.list_prompts, session.list_resources, session.list_resource_templates
    seen = {listing.__name__: dump(await listing()) for listing in listings}

    for tool, arguments in (
        ("echo", {"message": "grüß dich"}),
        ("get-sum", {"a": 2, "b": 40}),
        ("get-tiny-image", {}),
        ("get-annotated-message", {"messageType": "success", "includeImage": True}),
        ("get-structured-content", {"location": "New York"}),
        ("get-resource-links", {"count": 3}),
        ("get-resource-reference", {"resourceType": "Text", "resourceId": 1}),
        # The call is larger than one read of a socket.
        ("gzip-file-as-resource", {"name": "a.gz", "data": f"data:,{'a' * 80_000}", "outputType": "resource"}),
        # The server asks back, by the stream that has the answer.
        ("trigger-elicitation-request", {}),
        ("trigger-sampling-request", {"prompt": "say hello", "maxTokens": 10}),
        ("no-such-tool", {}),
    ):
        seen[tool] = await answer(session.call_tool(tool, arguments))
    seen |= await long(session, listener)

    document = "demo://resource/static/document/features.md"
    for uri in (document, "demo://resource/dynamic/text/7", "demo://no-such-resource"):
        seen[uri] = await answer(session.read_resource(uri))
    seen["args-prompt"] = dump(await session.get_prompt("args-prompt", {"city": "Zürich"}))
    prompt = types.PromptReference(name="completable-prompt")
    seen["complete"] = dump(await session.complete(prompt, {"name": "department", "value": "E"}))
    seen["ping"] = dump(await session.send_ping())
    seen["level"] = dump(await session.set_logging_level("debug"))

    # What these cause comes by the stream that belongs to no request.
    seen["subscribe"] = dump(await session.subscribe_resource(document))
    seen["start"] = dump(await session.call_tool("toggle-subscriber-updates"))
    await listener.until_notified(RESOURCE_UPDATED)
    seen["stop"] = dump(await session.call_tool("toggle-subscriber-updates"))
    seen["unsubscribe"] = dump(await session.unsubscribe_resource(document))
    await listener.until_notified("notifications/message", 2)
    await listener.until_notified(RESOURCES_CHANGED)
    return seen


async def long(session, listener):
    """A call that tells how far it is."""
    steps = 5
    called = session.call_tool(LONG, {"duration": 0.5, "steps": steps}, progress_callback=listener.on_progress)
    result = dump(await called)
    await listener.until(lambda: len(listener.progress) >= steps)
    return {LONG: result, "progress": listener.progress}


async def count(session, listener):
    """All tools of the server of mcp_server.rs."""
    seen = {"list_tools": dump(await session.list_tools())}
    seen["echo"] = dump(await session.call_tool("echo", {"text": "grüß dich"}))
    seen |= await hold(session, listener)
    if session.protocol_version in WITH_STREAM:
        seen["announce"] = dump(await session.call_tool("announce"))
        await listener.until_notified(TOOLS_CHANGED)
    else:
        async with listen(session, tools_list_changed=True) as subscription:
            seen["announce"] = dump(await session.call_tool("announce"))
            seen["told"] = isinstance(await anext(aiter(subscription)), ToolsListChanged)
    return seen


async def hold(session, listener):
    """A call that ends only when the client has its last number, as another call says so."""
    numbers = 3
    seen = {}
    # No other talk may release it.
    name = f"{session.protocol_version} {listener.session_id} {id(listener)}"

    async def counting():
        arguments = {"to": numbers, "hold": name}
        seen["count"] = dump(await session.call_tool("count", arguments, progress_callback=listener.on_progress))

    async with anyio.create_task_group() as group:
        group.start_soon(counting)
        await listener.until(lambda: any(number == numbers for number, *_ in listener.progress))
        seen["release"] = dump(await session.call_tool("release", {"name": name}))
    return seen | {"progress": listener.progress}


CONVERSATIONS = {conversation.__name__: conversation for conversation in (everything, long, count, hold)}


@asynccontextmanager
async def connected(transport, revision, listener):
    """A session with the server at the other end of `transport`, in this revision."""
    if revision != "2025-06-18":
        mode = "legacy" if revision == "2025-11-25" else revision
        async with Client(transport, mode=mode, cache=None, **listener.callbacks()) as client:
            yield client.session
        return
    # The SDK itself proposes the newest revision that has sessions; an older client would have proposed its own.
    async with transport as (read, write), ClientSession(read, write, **listener.callbacks()) as session:
        params = types.InitializeRequestParams(
            protocol_version=revision,
            capabilities=types.ClientCapabilities(
                elicitation=types.ElicitationCapability(), sampling=types.SamplingCapability()
            ),
            client_info=types.Implementation(name="older", version="1.0.0"),
        )
        session.adopt(await session.send_request(types.InitializeRequest(params=params), types.InitializeResult))
        await session.send_notification(types.InitializedNotification())
        yield session


async def talk(order):
    listener = Listener()
    try:
        return await talk_with(listener, order)
    except Exception as failure:
        exchanges = [f"{seen['method']} {seen['calls']} {seen['status']}" for seen in listener.exchanges]
        failure.add_note(f"until then: {exchanges}, progress {listener.progress}")
        raise


async def talk_with(listener, order):
    # Not by way of a proxy of the environment.
    http = httpx2.AsyncClient(
        headers=order["headers"],
        event_hooks={"response": [listener.on_answer]},
        timeout=PATIENCE,
        trust_env=False,
    )
    with anyio.fail_after(PATIENCE):
        async with http:
            transport = streamable_http_client(order["url"], http_client=http)
            async with connected(transport, order["revision"], listener) as session:
                if session.protocol_version in WITH_STREAM:
                    # What the server says before that is lost.
                    await listener.until_streaming()
                server = {
                    "version": session.protocol_version,
                    "info": dump(session.server_info),
                    "capabilities": dump(session.server_capabilities),
                    "instructions": session.instructions,
                }
                seen = await CONVERSATIONS[order["conversation"]](session, listener)
    # The end of the session is part of it.
    text = json.dumps({"transcript": listener.transcript(server, seen)})
    if listener.session_id:
        text = text.replace(listener.session_id, "<session>")
    # The SDK counts subscriptions for as long as the process runs.
    text = re.sub(r"\blisten-\d+\b", "<subscription>", text)
    return re.sub(r"\b\d{1,2}:\d\d:\d\d( [AP]M)?", "<time>", text)


for line in sys.stdin:
    try:
        told = anyio.run(talk, json.loads(line))
    except Exception:
        told = json.dumps({"failure": traceback.format_exc()})
    print(told, flush=True)
