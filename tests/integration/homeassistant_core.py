"""A real Home Assistant with nothing but its MQTT integration; runs on its Python, with nothing of ours.

    python homeassistant_core.py BROKER_PORT HTTP_PORT

Every line on standard input is answered by one on standard output: a JSON object with ``states`` (state and attributes
by entity), ``registered`` (the entities that it would remember) and ``complaints`` (warnings of its MQTT integration).
A line that is not empty is an action to be done before: a JSON list of domain, service and data.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType

from homeassistant import auth, bootstrap, config_entries, loader
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry
from homeassistant.setup import async_setup_component


class Complaints(logging.Handler):
    """Collects what the MQTT integration, or a template, logs as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("homeassistant.components.mqtt", "homeassistant.helpers.template")):
            self.lines.append(f"{record.name}: {record.getMessage()}")


async def begin(directory: str, broker_port: int, http_port: int) -> HomeAssistant:
    """Bring Home Assistant up in an empty directory and connect it to the broker."""
    (Path(directory) / "configuration.yaml").touch()
    hass = HomeAssistant(directory)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    http = {"server_host": "127.0.0.1", "server_port": http_port}  # the integration depends on it
    assert await async_setup_component(hass, "http", {"http": http})
    entry = config_entries.ConfigEntry(
        version=1,
        minor_version=2,
        domain="mqtt",
        title="broker",
        data={"broker": "127.0.0.1", "port": broker_port},
        source="user",
        options={},
        unique_id=None,
        discovery_keys=MappingProxyType({}),
        subentries_data=None,
    )
    await hass.config_entries.async_add(entry)
    await hass.async_start()
    return hass


async def main() -> None:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    with tempfile.TemporaryDirectory() as directory:
        hass = await begin(directory, int(sys.argv[1]), int(sys.argv[2]))
        while line := await hass.loop.run_in_executor(None, sys.stdin.readline):
            if line.strip():
                await hass.services.async_call(*json.loads(line), blocking=True)
            answer = {
                "states": {
                    state.entity_id: {"state": state.state, **state.attributes}
                    for state in hass.states.async_all()
                },
                "registered": sorted(entity_registry.async_get(hass).entities),
                "complaints": complaints.lines,
            }
            sys.stdout.write(json.dumps(answer, default=str) + "\n")
            sys.stdout.flush()
        await hass.async_stop(force=True)


if __name__ == "__main__":
    asyncio.run(main())
