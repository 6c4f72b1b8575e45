"""edgeclip on the device: camera clips in, typed answers over MQTT out."""

__version__ = "0.1.0"
