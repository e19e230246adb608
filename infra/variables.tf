# Everything that can be chosen. Only the package has no default.

variable "project" {
  description = "The project's name. All resources are named totes-<project>, so it tells apart deployments in one account."
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

variable "package" {
  description = "Path of the zip that `make lambda` has written, absolute or from here. Its Python version and architecture must be those below."
  type        = string

  validation {
    condition     = endswith(var.package, ".zip") && fileexists(var.package)
    error_message = "package must be a zip that is there: run `make lambda`, which prints its path."
  }
}

variable "python_version" {
  description = "The Python that the functions run on. 3.13 is the newest that version 5.100 of the provider knows."
  type        = string
  default     = "3.13"

  validation {
    condition     = contains(["3.11", "3.12", "3.13", "3.14"], var.python_version)
    error_message = "python_version must be 3.11, 3.12, 3.13 or 3.14."
  }
}

variable "architecture" {
  description = "The processors that the functions run on; arm64 costs a fifth less."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
}

variable "memory_megabytes" {
  description = "Memory of each function. Lambda gives processors in proportion: one at 1769 MB."
  type = object({
    ingest  = optional(number, 2048)
    process = optional(number, 3072)
    load    = optional(number, 2048)
  })
  default = {}

  validation {
    condition     = alltrue([for memory in values(var.memory_megabytes) : memory >= 512 && memory <= 10240 && floor(memory) == memory])
    error_message = "memory_megabytes must be whole numbers from 512 to 10240."
  }
}

variable "storage_megabytes" {
  description = "Size of each function's /tmp, where a batch is made and the cache is kept between invocations."
  type        = number
  default     = 4096

  validation {
    condition     = var.storage_megabytes >= 512 && var.storage_megabytes <= 10240 && floor(var.storage_megabytes) == var.storage_megabytes
    error_message = "storage_megabytes must be a whole number from 512 to 10240."
  }
}

variable "timeout_seconds" {
  description = "How long an invocation may take. A stage that nears it stops at a committed point and is called again."
  type        = number
  default     = 900

  validation {
    condition     = var.timeout_seconds >= 120 && var.timeout_seconds <= 900 && floor(var.timeout_seconds) == var.timeout_seconds
    error_message = "timeout_seconds must be a whole number from 120 to 900, which is Lambda's limit."
  }
}

variable "schedule_minutes" {
  description = "The time from one execution's start to the next one's."
  type        = number
  default     = 15

  validation {
    condition     = var.schedule_minutes >= 1 && var.schedule_minutes <= 1440 && floor(var.schedule_minutes) == var.schedule_minutes
    error_message = "schedule_minutes must be a whole number from 1 to 1440."
  }
}

variable "freshness_minutes" {
  description = "An alarm is raised when the warehouse is further behind the source than this."
  type        = number
  default     = 30

  validation {
    condition     = var.freshness_minutes >= 10 && var.freshness_minutes <= 1440 && var.freshness_minutes % 5 == 0
    error_message = "freshness_minutes must be a multiple of 5, from 10 to 1440."
  }

  validation {
    condition     = var.freshness_minutes > var.schedule_minutes
    error_message = "freshness_minutes must be more than schedule_minutes, or the alarm would never rest."
  }
}

variable "alert_emails" {
  description = "Who is told of failures. Each address gets a mail in which the subscription has to be confirmed."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", address))])
    error_message = "alert_emails must be e-mail addresses."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 90

  validation {
    condition     = contains([7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a period that CloudWatch Logs has, such as 30, 90 or 365."
  }
}

variable "noncurrent_days" {
  description = "How long what a person deleted from the lake, or replaced there, can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number, 1 or more."
  }
}

variable "schemas" {
  description = "The source's schema whose tables are captured, and the warehouse's schema that the star is in."
  type = object({
    source    = optional(string, "public")
    warehouse = optional(string, "public")
  })
  default = {}

  validation {
    condition     = alltrue([for schema in values(var.schemas) : length(schema) >= 1 && length(schema) <= 63])
    error_message = "schemas must have names of 1 to 63 characters."
  }
}

variable "databases" {
  description = "For each database a secret that is there already, such as one that RDS rotates, and parameters of the connection: those of TLS, or what the secret does not have (host, dbname)."
  type = object({
    source = optional(object({
      secret_arn = optional(string)
      parameters = optional(map(string), {})
    }), {})
    warehouse = optional(object({
      secret_arn = optional(string)
      parameters = optional(map(string), {})
    }), {})
  })
  default = {}

  validation {
    condition     = alltrue([for database in values(var.databases) : try(database.secret_arn == null || can(regex("^arn:[a-z-]+:secretsmanager:", database.secret_arn)), true)])
    error_message = "databases must name secrets by their ARNs (arn:aws:secretsmanager:…)."
  }

  validation {
    condition     = alltrue([for database in values(var.databases) : !contains(keys(database.parameters), "password")])
    error_message = "databases must not have passwords: anyone who may read a function's configuration would read them."
  }
}

variable "settings" {
  description = "Further settings by their environment variables, such as TOTES_SOURCE__EXCLUDE (docs/reference/settings.md)."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^TOTES_[A-Z]+__[A-Z_]+$", name)) && !endswith(name, "__URL") && !endswith(name, "__URLS")])
    error_message = "settings must be named TOTES_<SECTION>__<KEY>. Databases' URLs belong in Secrets Manager: anyone who may read a function's configuration reads its environment."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["TOTES_PROJECT__NAME", "TOTES_SOURCE__SCHEMA", "TOTES_LAKE__INGESTION", "TOTES_LAKE__PROCESSED", "TOTES_WAREHOUSE__SCHEMA"])) == 0
    error_message = "settings must not have the project's name, the schemas and the lake: variables of their own set these (project, schemas), and the lake is the two buckets."
  }
}

variable "vpc" {
  description = "The network that the functions run in, where the databases are not public; by default they run in none. An endpoint that is there is used if it is named: no other is made then."
  type = object({
    id              = string
    subnet_ids      = set(string)
    route_table_ids = optional(set(string), [])
    database_cidrs  = set(string)
    database_ports  = optional(set(number), [5432])
    endpoint_ids = optional(object({
      s3             = optional(string)
      secretsmanager = optional(string)
    }), {})
  })
  default = null

  validation {
    condition     = var.vpc == null || try(startswith(var.vpc.id, "vpc-") && length(var.vpc.subnet_ids) > 0 && alltrue([for subnet in var.vpc.subnet_ids : startswith(subnet, "subnet-")]), false)
    error_message = "vpc must name a VPC (vpc-…) and at least one of its subnets (subnet-…)."
  }

  validation {
    condition     = var.vpc == null || try(alltrue([for table in var.vpc.route_table_ids : startswith(table, "rtb-")]) && (length(var.vpc.route_table_ids) > 0) != (var.vpc.endpoint_ids.s3 != null), false)
    error_message = "vpc must name either the subnets' route tables (rtb-…), in which an endpoint for S3 is put, or in endpoint_ids the gateway endpoint for S3 (vpce-…) that they have already: the lake is reached through it."
  }

  validation {
    condition     = var.vpc == null || try(alltrue([for id in values(var.vpc.endpoint_ids) : id == null || startswith(coalesce(id, "vpce-"), "vpce-")]), false)
    error_message = "vpc must name endpoints by their ids (vpce-…)."
  }

  validation {
    condition     = var.vpc == null || try(length(var.vpc.database_cidrs) > 0 && alltrue([for range in var.vpc.database_cidrs : can(cidrhost(range, 0))]), false)
    error_message = "vpc must say where the databases are, as ranges of addresses such as 10.0.16.0/20."
  }
}

variable "warehouse_database" {
  description = "Makes the warehouse too: a PostgreSQL of RDS in the subnets of `vpc`, encrypted, backed up, with a password that RDS rotates. By default the warehouse is a database of yours."
  type = object({
    version           = optional(string, "17")
    instance_class    = optional(string, "db.t4g.small")
    storage_gigabytes = optional(number, 20)
  })
  default = null

  validation {
    condition     = var.warehouse_database == null || try(length(var.vpc.subnet_ids) >= 2, false)
    error_message = "warehouse_database needs vpc, with subnets in two zones or more."
  }

  validation {
    condition     = var.warehouse_database == null || var.databases.warehouse.secret_arn == null
    error_message = "warehouse_database has a secret of its own: databases.warehouse.secret_arn must not name another."
  }

  validation {
    condition     = var.warehouse_database == null || try(startswith(var.warehouse_database.instance_class, "db.") && var.warehouse_database.storage_gigabytes >= 20, false)
    error_message = "warehouse_database must have a class of RDS (db.…) and 20 gigabytes or more."
  }
}

variable "kms_key_arn" {
  description = "The KMS key that the lake's objects and the secrets made here are encrypted with; by default keys of AWS's own. It must be in this account and region."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key (arn:aws:kms:…:key/…)."
  }
}

variable "object_lock_days" {
  description = "How long S3 Object Lock (governance) keeps every version of the lake's objects from being deleted for good, whoever asks; 0 for no lock."
  type        = number
  default     = 0

  validation {
    condition     = var.object_lock_days >= 0 && var.object_lock_days <= 36500 && floor(var.object_lock_days) == var.object_lock_days
    error_message = "object_lock_days must be a whole number from 0 to 36500."
  }
}

variable "permissions_boundary_arn" {
  description = "The policy that bounds what any role made here may do. `make bootstrap` makes one, without which GitHub's role may make no role."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of a policy (arn:aws:iam::…:policy/…)."
  }
}

variable "paused" {
  description = "Whether the schedule starts nothing, and no alarm says so: for maintenance of a database."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of every resource, beside `project` and `managed_by`."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40
    error_message = "tags must be 40 at most; AWS takes 50 for a resource, and adds some itself."
  }
}
