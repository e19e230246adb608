# What one stage differs from another in, and what the three share.

variable "stage" {
  description = "The stage: ingest, process or load; or watch. Also the name of its handler."
  type        = string

  validation {
    condition     = contains(["ingest", "process", "load", "watch"], var.stage)
    error_message = "stage must be ingest, process, load or watch."
  }
}

variable "name" {
  description = "What names begin with: totes-<project>."
  type        = string
}

variable "description" {
  description = "What the function does, for people who look at it."
  type        = string
}

variable "package" {
  description = "The zip's bucket and key, and the Python and the processors that it was made for."
  type = object({
    bucket         = string
    key            = string
    python_version = string
    architecture   = string
  })
}

variable "memory_megabytes" {
  description = "The function's memory."
  type        = number
}

variable "storage_megabytes" {
  description = "The size of the function's /tmp."
  type        = number
}

variable "timeout_seconds" {
  description = "How long an invocation may take."
  type        = number
}

variable "environment" {
  description = "The settings of totes that this stage needs."
  type        = map(string)
}

variable "policy" {
  description = "What the stage may do beside writing its log, as a policy document."
  type        = string
}

variable "network" {
  description = "The subnets and the security group that the function is in, and the policy that lets it be there; null for none."
  type = object({
    subnet_ids        = set(string)
    security_group_id = string
    policy            = string
  })
}

variable "metric_namespace" {
  description = "The namespace of the pipeline's metrics."
  type        = string
}

variable "log_retention_days" {
  description = "How long the log is kept."
  type        = number
}

variable "kms_key_arn" {
  description = "The key that the lake and the secrets are encrypted with; null for keys of AWS's own."
  type        = string
}

variable "boundary_arn" {
  description = "The policy that bounds what the function's role may do; null for none."
  type        = string
}
