# The same project and region as in ../, and the repository that deploys it.

variable "project" {
  description = "The project's name, as in ../variables.tf."
  type        = string
  default     = "terrifictotes"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", var.project))
    error_message = "project must be 2 to 32 lower-case letters, digits and hyphens, as names of buckets are."
  }
}

variable "region" {
  description = "The AWS region that everything is in."
  type        = string
  default     = "eu-west-2"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the code of a region, such as eu-west-2."
  }
}

variable "repository" {
  description = "The GitHub repository whose workflows plan and apply, as owner/name."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository must be owner/name."
  }
}

variable "environment" {
  description = "The GitHub environment that a workflow has to run in to apply. Who has to approve is said there."
  type        = string
  default     = "production"

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+$", var.environment))
    error_message = "environment must be the name of a GitHub environment."
  }
}

variable "secret_arns" {
  description = "Secrets that are there already and that the pipeline reads, as `databases` in ../variables.tf names them."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.secret_arns : can(regex("^arn:[a-z-]+:secretsmanager:", arn))])
    error_message = "secret_arns must be ARNs of secrets (arn:aws:secretsmanager:…)."
  }
}
