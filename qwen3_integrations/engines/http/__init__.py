"""The engine for HTTP servers.

engine          `HttpEngine`: jobs in, replies out
connection      requests to one server, and what its first contact showed
address         the server's address, credentials removed
server_info     what is known about a server, as one value
discovery       what a server may be: model, context, dialect and routes
listing         a server's list of models, and how it names a model
sglang          what SGLang says of itself beside that list
family          the family of a model, from its names
learning        finds the route and the body that a server accepts
local_folder    what a folder on this machine says of the served model
handshake       the one-time check of a server by what it answers
dialects        routes and answers of each kind of server
bodies          the bodies of requests
fitting         cuts the prompts of a job to the server's budget
remote_tokens   counts and cuts with the server's tokenizer
grouping        divides the prompts of a job into requests
batching        sends the requests of many callers together, and splits refused ones
pending         the requests that wait, their batches, and the order in which jobs take turns
caps            what a server accepts in one request
deadlines       the time at which each call must have ended
attribution     which item of a call an error is about
transport       one HTTP request, and its failure as an error of this package
bounded         clients with a bounded time and size of each request
failures        failed requests as errors: whose fault it is
replies         the JSON, words and codes of an answer
numbers         numbers in a server's JSON, read strictly
redirects       which redirects are followed
headers         checks of header values, and secrets that are never shown
network         proxy and certificates
library         the HTTP library of the installed OpenAI SDK
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_integrations.core.lazy import lazy_names

if TYPE_CHECKING:
    from qwen3_integrations.engines.http.engine import HttpEngine

__all__ = ["HttpEngine"]

__getattr__ = lazy_names(__name__, {"engine": ("HttpEngine",)})
