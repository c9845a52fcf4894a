"""Writes dashboards/dreamserve.json, which Grafana reads: ``python docker/grafana/dashboard.py``.

A panel is one line of what it shows and its queries; the thousand lines around that are the same for all.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "dashboards" / "dreamserve.json"
WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8
RATE = "[$__rate_interval]"
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """One graph.

    Attributes:
        title: what it shows.
        unit: by Grafana's name for it.
        queries: PromQL by legend.
        description: what to make of it.
    """

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""


def quantiles(histogram: str) -> dict[str, str]:
    """The median and the tail of a histogram."""
    return {
        f"p{q * 100:g}": f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket{RATE})))"
        for q in (0.5, 0.95, 0.99)
    }


def rates(counter: str, label: str = "") -> dict[str, str]:
    """How often a second something is counted, for each value of a label."""
    by = f"by ({label}) " if label else ""
    return {f"{{{{{label}}}}}" if label else "a second": f"sum {by}(rate({counter}{RATE}))"}


def ratio(part: str, whole: str) -> str:
    """The share of one counter in another."""
    return f"sum(rate({part}{RATE})) / sum(rate({whole}{RATE}))"


ROWS: dict[str, list[Panel]] = {
    "Answers": [
        Panel("Documents ended", "ops", rates("dreamserve_documents_total", "outcome")),
        Panel(
            "Documents now",
            "short",
            {
                "being made, or in line": "sum(dreamserve_documents_running)",
                "in line": "sum(dreamserve_admission_waiting)",
                "waiting for a picture": "sum(dreamserve_stalled_documents)",
                "open streams": "sum(dreamserve_sse_connections)",
            },
        ),
        Panel("HTTP answers by status", "reqps", rates("dreamserve_http_requests_total", "status")),
        Panel("Time to first token", "s", quantiles("dreamserve_time_to_first_token_seconds")),
        Panel("Inter-token latency", "s", quantiles("dreamserve_inter_token_latency_seconds")),
        Panel("Tokens", "ops", rates("dreamserve_tokens_total", "kind"), "Of documents that ended."),
        Panel("Time to first picture", "s", quantiles("dreamserve_time_to_first_image_seconds")),
        Panel("Gap between pictures", "s", quantiles("dreamserve_image_gap_seconds")),
        Panel("Documents that ended well took", "s", quantiles("dreamserve_document_duration_seconds")),
    ],
    "Pictures": [
        Panel("Pictures by outcome", "ops", rates("dreamserve_images_total", "outcome")),
        Panel("From dream to picture", "s", quantiles("dreamserve_image_duration_seconds")),
        Panel(
            "Text stalled by a picture",
            "s",
            quantiles("dreamserve_text_stall_seconds"),
            "From a dream token to the next token.",
        ),
        Panel(
            "Hand-off",
            "s",
            quantiles("dreamserve_handoff_seconds"),
            "From dream states in a server to a diffusion engine that has them, the wait in line included.",
        ),
        Panel("Wait in the queue", "s", quantiles("dreamserve_worker_job_wait_seconds")),
        Panel("From last step to encoded picture", "s", quantiles("dreamserve_diffusion_finish_seconds")),
    ],
    "Pool": [
        Panel(
            "Work ahead",
            "s",
            {"seconds of work": "max(dreamserve_pool_work_ahead_seconds)"},
            "Every server reports the whole pool.",
        ),
        Panel(
            "Image jobs",
            "short",
            {
                "waiting": "max(dreamserve_pool_jobs_waiting)",
                "running": "max(dreamserve_pool_jobs_running)",
                "held by workers": "sum(dreamserve_worker_jobs_held)",
            },
        ),
        Panel("Workers alive", "short", {"workers": "max(dreamserve_pool_workers_alive)"}),
        Panel(
            "Steps",
            "ops",
            {
                "denoising steps": f"sum(rate(dreamserve_diffusion_job_steps_total{RATE}))",
                "UNet calls": f"sum(rate(dreamserve_diffusion_steps_total{RATE}))",
            },
        ),
        Panel(
            "Batch size",
            "short",
            {
                "mean": f"sum(rate(dreamserve_diffusion_batch_size_sum{RATE}))"
                f" / sum(rate(dreamserve_diffusion_batch_size_count{RATE}))",
                "p95": f"histogram_quantile(0.95, sum by (le) (rate(dreamserve_diffusion_batch_size_bucket{RATE})))",
            },
        ),
        Panel("One UNet call", "s", quantiles("dreamserve_diffusion_step_seconds")),
        Panel(
            "Jobs done again",
            "ops",
            {
                "taken over from another worker": f"sum(rate(dreamserve_worker_jobs_taken_over_total{RATE}))",
                "put in line again": f"sum(rate(dreamserve_pool_jobs_resubmitted_total{RATE}))",
                "leases lost": f"sum(rate(dreamserve_worker_leases_lost_total{RATE}))",
            },
        ),
        Panel("Jobs that workers let go of", "ops", rates("dreamserve_worker_jobs_ended_total", "outcome")),
        Panel(
            "Redis refused or away",
            "ops",
            {
                "for workers": f"sum(rate(dreamserve_worker_redis_errors_total{RATE}))",
                "for servers": f"sum(rate(dreamserve_pool_submissions_failed_total{RATE}))",
            },
        ),
    ],
    "Language model": [
        Panel(
            "vLLM's requests",
            "short",
            {"running": "sum(vllm:num_requests_running)", "waiting": "sum(vllm:num_requests_waiting)"},
        ),
        Panel("KV cache in use", "percentunit", {"{{instance}}": "vllm:kv_cache_usage_perc"}),
        Panel(
            "Contexts that wait for a picture",
            "short",
            {"tokens": "sum(dreamserve_stalled_kv_tokens)"},
            "What the prefix cache has to hold for documents that are stalled.",
        ),
        Panel(
            "Prefix recomputed after a picture",
            "percentunit",
            {
                "share": ratio(
                    'dreamserve_feedback_prefix_tokens_total{source="recomputed"}',
                    "dreamserve_feedback_prefix_tokens_total",
                )
            },
        ),
        Panel(
            "Prefix cache hits",
            "percentunit",
            {"share": ratio("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")},
        ),
        Panel("Preemptions", "ops", rates("vllm:num_preemptions_total")),
    ],
    "Admission and journal": [
        Panel("Refused, by what was full", "ops", rates("dreamserve_admission_refused_total", "reason")),
        Panel("Refused at a limit of the caller", "ops", rates("dreamserve_rate_limited_total", "resource")),
        Panel("Wait in line", "s", quantiles("dreamserve_admission_wait_seconds")),
        Panel("Journal", "bytes", {"{{instance}}": "dreamserve_journal_bytes"}),
        Panel("Age of what is not in Redis yet", "s", {"{{instance}}": "dreamserve_journal_mirror_lag_seconds"}),
        Panel("Refused by checks", "ops", rates("dreamserve_check_refusals_total", "check")),
    ],
    "Processes": [
        Panel("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job=~"dreamserve-.*"}'}),
        Panel("CPU", "short", {"{{instance}}": f'rate(process_cpu_seconds_total{{job=~"dreamserve-.*"}}{RATE})'}),
        Panel("Tasks on the event loop", "short", {"{{instance}}": "dreamserve_asyncio_tasks"}),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana has it, of schema 39 (Grafana 11)."""
    return {
        "uid": "dreamserve",
        "title": "DreamServe",
        "tags": ["dreamserve"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "source"}]
        },
        "panels": panels(),
    }


def panels() -> list[dict[str, Any]]:
    """Rows of three, each subject under its heading."""
    placed: list[dict[str, Any]] = []
    y = 0
    for heading, row in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        placed.append({"id": len(placed) + 1, "type": "row", "title": heading, "collapsed": False, "gridPos": place})
        y += 1
        for number, panel in enumerate(row):
            line, column = divmod(number, WIDTH // PANEL_WIDTH)
            place = {"x": column * PANEL_WIDTH, "y": y + line * PANEL_HEIGHT, "w": PANEL_WIDTH, "h": PANEL_HEIGHT}
            placed.append({"id": len(placed) + 1, "gridPos": place, **graph(panel)})
        y += -(-len(row) // (WIDTH // PANEL_WIDTH)) * PANEL_HEIGHT
    return placed


def graph(panel: Panel) -> dict[str, Any]:
    """A panel over time."""
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATA_SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": DATA_SOURCE, "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=2) + "\n")
