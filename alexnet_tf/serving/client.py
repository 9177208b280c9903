"""A client of TF Serving, over REST or gRPC.

A server that is starting refuses connections: requests are retried, with increasing pauses, until
`patience` seconds have passed. All other errors are raised at once.
"""

import base64
import dataclasses
import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from alexnet_tf.serving.classifier import Classifier, ImageError, reason

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_OUTPUTS = ("classes", "scores", "probabilities")


@dataclasses.dataclass(frozen=True)
class Server:
    """Address of a server and how to query it.

    Attributes:
      url: http://HOST:8501, https://HOST or grpc://HOST:8500.
      model: the model's name on the server.
      label: one of the server's version_labels, such as "stable"; "" for the newest version.
      timeout: maximum duration of a request in seconds.
      patience: seconds during which an unreachable server is retried; 0 for a single attempt.
    """

    url: str
    model: str = "alexnet"
    label: str = ""
    timeout: float = 30.0
    patience: float = 60.0


class _NotReady(Exception):
    """The server does not answer yet, or reports that it is not available."""


def open_server(server: Server) -> Classifier:
    """Returns a classifier (see `predictor`) that queries a server.

    Its calls raise `ImageError` if the server refuses the images or there are none, TimeoutError
    if it is too slow, ConnectionError if it cannot be reached, and ValueError if it does not know
    the model or the label, or is not TF Serving.

    Raises:
      ValueError: the URL has another form.
    """
    scheme, address = _address(server.url)
    ask = _grpc(server, address) if scheme == "grpc" else _rest(server)

    def classify(files: list[bytes]) -> dict[str, np.ndarray]:
        if not files:
            # An empty list cannot be serialised as strings.
            from alexnet_tf.serving import signatures

            raise ImageError(signatures.NO_PICTURES)
        started, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                outputs = ask(files)
                break
            except _NotReady as error:
                if time.monotonic() - started + pause > server.patience:
                    raise ConnectionError(
                        f"{server.url} did not answer within {server.patience:g} s ({error}): is "
                        "the server running?"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        missing = [name for name in _OUTPUTS if name not in outputs]
        if missing:
            raise ValueError(
                f"The model {server.model!r} of {server.url} gives no {missing[0]!r}: it was not "
                "exported by `python -m alexnet_tf.export`."
            )
        for name in _OUTPUTS:
            shape = outputs[name].shape
            if shape[:1] != (len(files),):
                raise ValueError(
                    f"{server.url} was asked about {len(files)} image(s) and answered {name!r} "
                    f"of shape {shape}: expected a row for each image."
                )
        return outputs

    return classify


def _address(url: str) -> tuple[str, str]:
    """(scheme, "host:port") of a server's URL; gRPC has no path, and no port by default."""
    try:
        parts = urllib.parse.urlsplit(url)
        grpc_address = parts.port is not None and not parts.path
    except ValueError:  # a port of 99999, half an IPv6 address
        known = False
    else:
        schemes = ("http", "https", "grpc") if grpc_address else ("http", "https")
        known = parts.scheme in schemes and bool(parts.hostname)
    if not known:
        raise ValueError(f"{url!r} is no server: expected http://HOST:8501 or grpc://HOST:8500.")
    return parts.scheme, parts.netloc


def _rest(server: Server):
    version = f"/labels/{urllib.parse.quote(server.label)}" if server.label else ""
    name = urllib.parse.quote(server.model)
    url = f"{server.url.rstrip('/')}/v1/models/{name}{version}:predict"

    def ask(files: list[bytes]) -> dict[str, np.ndarray]:
        encoded = [{"b64": base64.b64encode(file).decode()} for file in files]
        body = json.dumps({"signature_name": "serving_default", "instances": encoded}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=server.timeout) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise _http_error(error, server) from error
        except TimeoutError as error:
            raise _too_slow(server) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _too_slow(server) from error
            if isinstance(error.reason, ssl.SSLError):
                # A retry would find the same certificate, or again none.
                raise ConnectionError(
                    f"{server.url} cannot be spoken to over https: {error.reason}."
                ) from error
            raise _NotReady(str(error.reason)) from error
        except (ConnectionError, http.client.IncompleteRead) as error:
            raise _NotReady(str(error) or type(error).__name__) from error
        except (ValueError, http.client.HTTPException) as error:
            # A gRPC port, for example, answers in binary.
            said = str(error).strip() or type(error).__name__
            raise _no_tf_serving(server, repr(said)) from error
        rows = answer.get("predictions") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise _no_tf_serving(server, "no predictions")
        names = set.intersection(*(set(row) for row in rows)) if rows else set()
        try:
            return {
                # JSON does not keep the type float32.
                name: np.array([row[name] for row in rows], None if name == "classes" else "f4")
                for name in names.intersection(_OUTPUTS)
            }
        except (ValueError, TypeError) as error:
            raise _no_tf_serving(server, str(error)) from error

    return ask


def _no_tf_serving(server: Server, why: str) -> ValueError:
    return ValueError(f"{server.url} does not answer as TF Serving does: {why}.")


def _invalid_argument(said: str, server: Server) -> Exception:
    """The exception for the server's INVALID_ARGUMENT: bad images, or an unknown label."""
    if "servable version label" in said:
        return _refused(said, server)
    return ImageError(reason(said))


def _refused(said: str, server: Server) -> ValueError:
    said = " ".join(said.split())
    return ValueError(f"{server.url} refused the request for model {server.model!r}: {said}")


def _http_error(error: urllib.error.HTTPError, server: Server) -> Exception:
    content = error.read().decode(errors="replace")
    try:
        said = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        said = content
    if error.code == 400:
        return _invalid_argument(said, server)
    said = " ".join(said.split()) or error.reason
    if error.code in (502, 503):
        return _NotReady(said)
    if error.code == 504:
        return _too_slow(server)
    return _refused(said, server)


def _grpc(server: Server, target: str):
    import grpc

    from alexnet_tf.serving import messages

    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # The channel backs off for up to two minutes, during which it fails without connecting.
        ("grpc.initial_reconnect_backoff_ms", int(1e3 * _FIRST_PAUSE)),
        ("grpc.max_reconnect_backoff_ms", int(1e3 * _LONGEST_PAUSE)),
    ]
    predict = grpc.insecure_channel(target, options).unary_unary(
        messages.PREDICT_METHOD,
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=messages.parse_response,
    )

    def ask(files: list[bytes]) -> dict[str, np.ndarray]:
        inputs = {"image_bytes": files}
        request = messages.predict_request(
            server.model, "serving_default", inputs, version_label=server.label
        )
        try:
            return predict(request, timeout=server.timeout)
        except grpc.RpcError as error:
            said = error.details() or ""
            code = error.code()
            if code == grpc.StatusCode.UNAVAILABLE:
                raise _NotReady(" ".join(said.split())) from error
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _too_slow(server) from error
            if code == grpc.StatusCode.INVALID_ARGUMENT:
                raise _invalid_argument(said, server) from error
            raise _refused(f"{said} ({code.name})", server) from error

    return ask


def _too_slow(server: Server) -> TimeoutError:
    return TimeoutError(
        f"{server.url} took longer than {server.timeout:g} s: give it more time with --timeout, or "
        "fewer images."
    )
