"""The language that answers are written in, as HTML names it (BCP 47), so that they are read aloud and broken rightly."""

from __future__ import annotations

_CODES = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "az": "azerbaijani", "be": "belarusian", "bg": "bulgarian",
    "bn": "bengali", "bs": "bosnian", "ca": "catalan", "cs": "czech", "cy": "welsh", "da": "danish", "de": "german",
    "el": "greek", "en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque",
    "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "gl": "galician", "gu": "gujarati",
    "he": "hebrew", "hi": "hindi", "hr": "croatian", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "is": "icelandic", "it": "italian", "ja": "japanese", "ka": "georgian", "kk": "kazakh", "km": "khmer",
    "kn": "kannada", "ko": "korean", "lb": "luxembourgish", "lo": "lao", "lt": "lithuanian", "lv": "latvian",
    "mk": "macedonian", "ml": "malayalam", "mn": "mongolian", "mr": "marathi", "ms": "malay", "mt": "maltese",
    "my": "burmese", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pa": "punjabi", "pl": "polish",
    "ps": "pashto", "pt": "portuguese", "ro": "romanian", "ru": "russian", "si": "sinhala", "sk": "slovak",
    "sl": "slovenian", "so": "somali", "sq": "albanian", "sr": "serbian", "sv": "swedish", "sw": "swahili",
    "ta": "tamil", "te": "telugu", "th": "thai", "tl": "tagalog", "tr": "turkish", "uk": "ukrainian", "ur": "urdu",
    "uz": "uzbek", "vi": "vietnamese", "zh": "chinese", "zu": "zulu",
    "nb": "norwegian bokmal", "nn": "norwegian nynorsk",
    "zh-Hans": "simplified chinese", "zh-Hant": "traditional chinese", "yue": "cantonese",
    "pt-BR": "brazilian portuguese", "gsw": "swiss german",
}  # fmt: skip
_BY_NAME = {name: code for code, name in _CODES.items()}


def code(name: str) -> str:
    """Return the tag of a language by its English name, or "" where it is not known.

    Args:
        name: As the operator wrote it: ``German``, ``Chinese (Simplified)``.
    """
    words = name.lower().replace("(", " ").replace(")", " ").replace("-", " ").split()
    for candidate in (" ".join(words), " ".join(reversed(words)), *words):
        if candidate in _BY_NAME:
            return _BY_NAME[candidate]
    return ""
