"""Three questions that the demo asks the warehouse, in DuckDB's SQL."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from totes.pipeline import Pipeline

_QUESTIONS = (
    (
        "What have sales brought in since July, by quarter and currency?",
        """\
SELECT 'Q' || quarter AS quarter, currency_name AS currency,
       count(*) AS orders, sum(units_sold * unit_price) AS revenue
FROM fact_sales_order_current
JOIN dim_date ON date_id = created_date
JOIN dim_currency USING (currency_id)
WHERE year = {day:%Y} AND quarter >= 3
GROUP BY ALL ORDER BY quarter, revenue DESC""",
    ),
    (
        "Which design sells best in each country?",
        """\
SELECT counterparty_legal_country AS country, design_name AS design, sum(units_sold) AS units
FROM fact_sales_order_current
JOIN dim_counterparty USING (counterparty_id)
JOIN dim_design USING (design_id)
GROUP BY country, design
QUALIFY row_number() OVER (PARTITION BY country ORDER BY units DESC, design) = 1
ORDER BY units DESC LIMIT 5""",
    ),
    (
        "What was still to be delivered when {day:%-d %B} began, and what is now? totesys has forgotten.",
        """\
SELECT currency_code AS currency,
       count(*) FILTER (was_open) AS orders_then,
       sum(units_sold * unit_price) FILTER (was_open) AS value_then,
       count(*) FILTER (is_open) AS orders_now,
       sum(units_sold * unit_price) FILTER (is_open) AS value_now
FROM (
    SELECT *, valid_to IS NULL AS is_open,
           valid_from <= moment AND (valid_to > moment OR valid_to IS NULL) AS was_open
    FROM fact_sales_order, (SELECT TIMESTAMP '{day} 08:00' AS moment)
    WHERE NOT is_deleted AND agreed_delivery_date > moment
)
JOIN dim_currency USING (currency_id)
GROUP BY ALL ORDER BY orders_now DESC""",
    ),
)


@dataclass(frozen=True)
class Answer:
    """A question, the SQL that asks it, and the rows of the answer."""

    question: str
    sql: str
    columns: list[str]
    rows: list[tuple[Any, ...]]


def ask(pipeline: Pipeline, day: datetime.date) -> list[Answer]:
    """Runs all three queries on the pipeline's warehouse.

    Args:
        pipeline: the demo's pipeline, with both batches loaded.
        day: the day of trade between them.
    """
    answers = []
    with pipeline.warehouse(read_only=True) as warehouse:
        for question, template in _QUESTIONS:
            sql = template.format(day=day)
            answers.append(Answer(question.format(day=day), sql, *warehouse.query(sql)))
    return answers
