"""`medvlm serve`: an OpenAI-compatible server for a fine-tuned model, by vLLM or by transformers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Engine = Literal["auto", "vllm", "transformers"]


def serve(
    model: Path,
    merged: Path | None = None,
    engine: Engine = "auto",
    host: str = "127.0.0.1",
    port: int = 8000,
    dry_run: bool = False,
) -> None:
    """Serve a fine-tuned model to OpenAI clients; an adapter is merged into its base first.

    Example:
        medvlm serve runs/stage4/model --port 8000

    Args:
        model: folder of a model or an adapter.
        merged: where an adapter merged into its base is written (default: MODEL-merged); kept if it is there.
        engine: vllm, transformers, or auto: vllm where it is installed.
        host: address to listen on; only this machine by default.
        port: its port.
        dry_run: merge and print the server's command line, but do not start it.
    """
    import os

    folder = servable(model, merged)
    command = server_command(engine, folder, host, port)
    print(" ".join(command))
    if not dry_run:
        # The server takes this process's place: signals and exit codes are its own.
        os.execvp(command[0], command)


def servable(model: Path, merged: Path | None) -> Path:
    """A folder of whole weights.

    Raises:
        MedVLMError: there is no model, or its adapter cannot be merged.
    """
    if not (model / "adapter_config.json").is_file():
        from medvlm.errors import MedVLMError

        if not (model / "config.json").is_file():
            raise MedVLMError(f"{model}: no model in this folder (neither config.json nor adapter_config.json).")
        return model
    target = merged or model.with_name(f"{model.name}-merged")
    if not (target / "config.json").is_file():
        from medvlm.models.load import load_model
        from medvlm.models.merge import save_merged

        save_merged(load_model(model), target)
    return target


def server_command(engine: Engine, folder: Path, host: str, port: int) -> list[str]:
    """The command line of the server.

    Raises:
        MedVLMError: no server is installed.
    """
    import sys

    from medvlm.errors import MedVLMError

    address = ["--host", host, "--port", str(port)]
    if engine != "transformers" and find_spec("vllm"):
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), *address]
    if engine == "vllm":
        raise MedVLMError(
            "vLLM is not installed: pip install vllm (it brings its own torch), or take --engine transformers."
        )
    from transformers.utils.import_utils import is_serve_available

    if is_serve_available():
        code = "from transformers.cli.transformers import main; main()"
        return [sys.executable, "-c", code, "serve", str(folder), *address]
    raise MedVLMError(
        "no server is installed: pip install 'medvlm-specialist[serve]', or vllm on a machine with a GPU."
    )


COMMAND = serve
