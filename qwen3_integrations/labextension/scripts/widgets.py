"""Write the widgets' own modules, styles and default traits where the TypeScript build finds them. Run before `tsc`."""

from __future__ import annotations

import json
from pathlib import Path

from qwen3_integrations.notebook import RankInspector
from qwen3_integrations.notebook.widget import assets

ROOT = Path(__file__).parent.parent
WIDGETS = ("inspector", "panel")


def main() -> None:
    """Write `src/generated/` and `style/generated/`; git ignores both."""
    code, style = ROOT / "src" / "generated", ROOT / "style" / "generated"
    for folder in (code, style):
        folder.mkdir(exist_ok=True)
    for name in WIDGETS:
        script, css = assets(name)
        (code / f"{name}.ts").write_text(f"// @ts-nocheck  Made by scripts/widgets.py from notebook/static.\n{script}", encoding="utf-8")
        (style / f"{name}.css").write_text(css, encoding="utf-8")
    traits = {name: trait.default() for name, trait in RankInspector.class_traits(exported=lambda value: value is not None).items()}
    text = json.dumps(dict(sorted(traits.items())), indent=2)
    about = "// Made by scripts/widgets.py: the inspector's traits and their defaults."
    (code / "defaults.ts").write_text(f"{about}\nexport const DEFAULTS: Record<string, unknown> = {text};\n", encoding="utf-8")


if __name__ == "__main__":
    main()
