"""Tests of the datasets and dashboards that are made for BI tools."""
